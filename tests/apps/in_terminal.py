"""Run a command in a session of its own, with the terminal on descriptor argv[1] as its controlling
one."""

import os
import sys

os.login_tty(int(sys.argv[1]))
os.execvp(sys.argv[2], sys.argv[2:])
