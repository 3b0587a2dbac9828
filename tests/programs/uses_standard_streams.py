"""Uses its standard streams, whichever it has, and writes down what they are: FACTS."""

import json
import os
import subprocess
import sys

from gworker.system.stdio import fill_standard

fill_standard()
further = os.open("/dev/zero", os.O_RDONLY)
print("printed")
print("complained", file=sys.stderr)
subprocess.run(["sh", "-c", "echo printed; echo complained >&2"], check=True)
facts = {fd: [os.readlink(f"/proc/self/fd/{fd}"), os.get_inheritable(fd)] for fd in range(3)}
with open(sys.argv[1], "w") as file:
    json.dump([facts, sys.stdin.read(), further], file)
