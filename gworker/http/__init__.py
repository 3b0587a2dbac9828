"""What an HTTP handler sees: the request that it gets and the response that it gives.

Nothing here knows a socket or a parser.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gworker.http.errors import BadRequest
from gworker.http.headers import Headers
from gworker.http.parameters import Parameters
from gworker.http.request import Request
from gworker.http.response import Response
from gworker.http.sse import Event

if TYPE_CHECKING:
    from gworker.http.forms import UploadedFile
    from gworker.http.session import Session
    from gworker.http.static import Static

__all__ = [
    "BadRequest",
    "Event",
    "Headers",
    "Parameters",
    "Request",
    "Response",
    "Session",
    "Static",
    "UploadedFile",
]


_HOME = {
    "Session": "gworker.http.session",
    "Static": "gworker.http.static",
    "UploadedFile": "gworker.http.forms",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gworker.http' has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(_HOME[name]), name)
    return found
