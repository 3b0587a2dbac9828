"""gworker a second time in this process, with the core in Python."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import SimpleNamespace

NAMES = {
    "core": "gworker.core",
    "http": "gworker.http",
    "request": "gworker.http.request",
    "parameters": "gworker.http.parameters",
    "errors": "gworker.errors",
    "base": "gworker.protocols.base",
    "protocol": "gworker.protocols.http.protocol",
}


def modules() -> SimpleNamespace:
    """The modules that are tested, by their last name."""
    return SimpleNamespace(**{name: import_module(path) for name, path in NAMES.items()})


def pure_modules() -> SimpleNamespace:
    """As `modules`, all of them loaded again with GWORKER_PURE set."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_ours(name)}
    given = os.environ.get("GWORKER_PURE")
    os.environ["GWORKER_PURE"] = "1"
    try:
        return modules()
    finally:
        for name in [name for name in sys.modules if _is_ours(name)]:
            del sys.modules[name]
        sys.modules.update(before)
        del os.environ["GWORKER_PURE"]
        if given is not None:
            os.environ["GWORKER_PURE"] = given


def _is_ours(name: str) -> bool:
    return name == "gworker" or name.startswith("gworker.")
