"""gworker a second time in this process, with the core in Python."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from types import ModuleType, SimpleNamespace

NAMES = {
    "core": "gworker.core",
    "http": "gworker.http",
    "request": "gworker.http.request",
    "parameters": "gworker.http.parameters",
    "errors": "gworker.errors",
    "base": "gworker.protocols.base",
    "protocol": "gworker.protocols.http.protocol",
    "protocols": "gworker.protocols",
    "worker": "gworker.app.worker",
    "limits": "gworker.app.limits",
    "connection": "gworker.connection.connection",
    "context": "gworker.connection.context",
    "scoreboard": "gworker.ipc.scoreboard",
    "tls_socket": "gworker.tls.socket",
}


class Loaded(SimpleNamespace):
    """Modules by their last name, and all that were loaded with them."""

    all: dict[str, ModuleType]


@cache
def modules() -> Loaded:
    """The modules that are tested."""
    found = {name: import_module(path) for name, path in NAMES.items()}
    return Loaded(**found, all=_ours())


@cache
def pure_modules() -> Loaded:
    """As `modules`, all of them loaded again with GWORKER_PURE set."""
    modules()
    given = os.environ.get("GWORKER_PURE")
    os.environ["GWORKER_PURE"] = "1"
    try:
        with using(Loaded(all={})):
            found = {name: import_module(path) for name, path in NAMES.items()}
            return Loaded(**found, all=_ours())
    finally:
        del os.environ["GWORKER_PURE"]
        if given is not None:
            os.environ["GWORKER_PURE"] = given


@contextmanager
def using(loaded: Loaded) -> Iterator[None]:
    """What is imported in the block is that of `loaded`: some modules import others late."""
    if loaded is modules():  # these are in place, and other tests may have loaded more of them
        yield
        return
    before = _ours()
    _replace(loaded.all)
    try:
        yield
    finally:
        loaded.all = _ours()
        _replace(before)


def _ours() -> dict[str, ModuleType]:
    return {
        name: module
        for name, module in sys.modules.items()
        if name == "gworker" or name.startswith("gworker.")
    }


def _replace(ours: dict[str, ModuleType]) -> None:
    for name in _ours():
        del sys.modules[name]
    sys.modules.update(ours)
