"""Runs a command once for each port, until SIGTERM: python copies.py PORT,PORT… COMMAND {port} …"""

import signal
import subprocess
import sys
from types import FrameType


def finish(number: int, frame: FrameType | None) -> None:
    sys.exit()


signal.signal(signal.SIGTERM, finish)
ports, command = sys.argv[1].split(","), sys.argv[2:]
running = []
try:
    for port in ports:
        running.append(subprocess.Popen([word.replace("{port}", port) for word in command]))
    for each in running:
        each.wait()
finally:
    for each in running:
        each.terminate()
    for each in running:
        each.wait()
