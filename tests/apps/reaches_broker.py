"""Each message is passed to the local broker, by the descriptor that the process has inherited, and
answered with what that says."""

import os
import socket

from gworker import Worker

reaches = Worker("tcp://127.0.0.1:0", name="reaches")


def inherited() -> str:
    for number in os.listdir("/proc/self/fd"):
        path = f"/proc/self/fd/{number}"
        if os.path.islink(path) and ".broker" in os.readlink(path):
            return path
    raise FileNotFoundError("no descriptor of the broker's socket")


@reaches.on_message
def pass_on(connection, message):
    with socket.socket(socket.AF_UNIX) as broker:
        broker.connect(inherited())
        broker.sendall(message)
        connection.send(broker.recv(65536))
