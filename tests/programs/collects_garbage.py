"""Tells whether garbage is collected while it serves, and while it watches: DIRECTORY."""

import gc
import sys

from gworker.cli import commands
from gworker.cli import main as cli
from gworker.cli import serve as server


class Arbiter:
    def __init__(self, *_):
        pass

    def run(self):
        print("serving", gc.isenabled())
        return 0


def show():
    print("watching", gc.isenabled())
    raise KeyboardInterrupt


server.Arbiter = Arbiter
cli.main(["app", "--runtime-dir", sys.argv[1]])
gc.disable()
commands.watch(show)
