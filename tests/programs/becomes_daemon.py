"""Becomes a daemon, and writes down what it is then: FACTS OUTPUT ACTION."""

import json
import os
import signal
import sys
import time  # noqa: F401  an action may use it

from gworker.system.daemon import daemonize

facts, output, action = sys.argv[1:4]
starter = os.getpid()
print("before", end=" ")  # stays in the buffer over the forks
launch = daemonize(output or None)
with open(facts + ".new", "w") as file:
    json.dump(
        {
            "pid": os.getpid(),
            "starter": starter,
            "session": os.getsid(0),
            "directory": os.getcwd(),
            "fds": {
                fd: os.readlink(f"/proc/self/fd/{fd}")
                for fd in os.listdir("/proc/self/fd")
                if os.path.lexists(f"/proc/self/fd/{fd}")
            },
        },
        file,
    )
os.rename(facts + ".new", facts)
print("to stdout")
print("to stderr", file=sys.stderr)
exec(action)
signal.pause()
