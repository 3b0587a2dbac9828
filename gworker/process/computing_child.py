"""The processes of `gworker.computing`: how they are spawned, and what they run.

Imported in them as well, so little is imported here.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import traceback
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

SET_PDEATHSIG = 1  # prctl(2)

_failure: list[bytes] = []  # why the target could not be loaded here


class Process(SpawnProcess):
    """A process that does not import the main module of its parent: that is the gworker command,
    or the target."""

    @staticmethod
    def _Popen(process: BaseProcess) -> Any:
        main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
        try:
            return SpawnProcess._Popen(process)
        finally:
            sys.modules["__main__"] = main


class Context(SpawnContext):
    Process = Process


def begin(title: str, parent: int, script: str | None) -> None:
    """End with the parent, whatever ends that, and leave the Ctrl-C of a terminal to it."""
    from setproctitle import setproctitle

    ctypes.CDLL(None).prctl(SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    setproctitle(title)
    if script is not None:
        _load(script)


def _load(script: str) -> None:
    # What loading raises is the answer to each call of one of its functions.
    from gworker.app.loader import import_file
    from gworker.app.script import loading

    loading.append(script)  # for ever: Worker.run_all() ends a script
    try:
        import_file(script, os.getcwd(), script=True)
    except BaseException as error:
        _failure.append(_packed(error, traceback.format_exc()))


def compute(work: bytes) -> bytes:
    # Returns (result, exception, its traceback), packed.
    if _failure:
        return _failure[0]
    try:
        func, args, kwargs = pickle.loads(work)
        return pickle.dumps((func(*args, **kwargs), None, ""), pickle.HIGHEST_PROTOCOL)
    except BaseException as error:
        return _packed(error, traceback.format_exc())


def _packed(error: BaseException, trace: str) -> bytes:
    # The exception, or one with its text if it does not survive being packed.
    try:
        packed = pickle.dumps((None, error, trace), pickle.HIGHEST_PROTOCOL)
        pickle.loads(packed)
    except Exception:
        described = RuntimeError(f"{type(error).__name__}: {error}")
        packed = pickle.dumps((None, described, trace), pickle.HIGHEST_PROTOCOL)
    return packed
