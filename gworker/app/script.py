"""A script that ends in `Worker.run_all()`: the command takes its place."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from gworker.app import static_settings
from gworker.errors import ConfigError
from gworker.system import directory
from gworker.system.stdio import fill_standard

loading: list[str] = []  # the target being loaded, in a process that loads one


class LoadComplete(BaseException):
    """`Worker.run_all()` was reached while a script is being loaded: there is nothing more to
    execute."""


def run() -> NoReturn:
    """Execute `gworker` for the script that runs. Raises LoadComplete in a process that loads it,
    ConfigError where there is no script to serve."""
    if loading:
        raise LoadComplete
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        raise ConfigError(
            "Worker.run_all() was reached in a process that multiprocessing has started:"
            " it imports the script, so what starts gworker has to stand behind `if __name__ "
            "== '__main__':`"
        )
    fill_standard()
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is None:
        raise ConfigError("Worker.run_all() needs a script: run it as `python start.py start`")
    if script not in sys.orig_argv:
        script = directory.respelt(script)
    arguments = [
        "-P",
        "-m",
        "gworker",
        "--script",
        script,
        static_settings.as_argument(),
        *sys.argv[1:],
    ]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *arguments])
