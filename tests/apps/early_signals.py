"""`gworker ARGUMENTS` that sends itself signals at the moment at which its pid file can be seen.

early_signals.py NUMBER,NUMBER… ARGUMENTS
"""

import os
import sys

from gworker.cli.main import main
from gworker.system.pid_file import PidFile

numbers = [int(number) for number in sys.argv.pop(1).split(",")]
acquire = PidFile.acquire


def acquire_and_be_signalled(self):
    acquire(self)
    for number in numbers:
        os.kill(os.getpid(), number)


PidFile.acquire = acquire_and_be_signalled
sys.exit(main())
