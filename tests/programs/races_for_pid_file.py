"""Wants a pid file, once it is told to go: PATH."""

import sys

from gworker.errors import ConfigError
from gworker.system.pid_file import PidFile

sys.stdin.readline()
try:
    PidFile(sys.argv[1]).acquire()
except ConfigError:
    print("lost", flush=True)
else:
    print("won", flush=True)
sys.stdin.read()
