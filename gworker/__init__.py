"""gworker: a prefork network server that lets blocking Python code serve thousands of connections.

The public names are imported when they are first used, so that `import gworker` in the arbiter
loads neither gevent nor any protocol.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gworker.version import __version__

if TYPE_CHECKING:
    from gworker.client_connection import ClientConnection
    from gworker.connecting import connect
    from gworker.connection import Connection
    from gworker.errors import ConfigError, ErrorCode, GworkerError, LoadError, ProtocolError
    from gworker.http import Request, Response
    from gworker.processes import computing
    from gworker.protocols import PackageProtocol
    from gworker.session import Session
    from gworker.threads import blocking
    from gworker.timer import Timer
    from gworker.worker import Worker

__all__ = [
    "ClientConnection",
    "ConfigError",
    "Connection",
    "ErrorCode",
    "GworkerError",
    "LoadError",
    "PackageProtocol",
    "ProtocolError",
    "Request",
    "Response",
    "Session",
    "Timer",
    "Worker",
    "__version__",
    "blocking",
    "computing",
    "connect",
]

_HOME = {
    "ClientConnection": "client_connection",
    "ConfigError": "errors",
    "Connection": "connection",
    "ErrorCode": "errors",
    "GworkerError": "errors",
    "LoadError": "errors",
    "PackageProtocol": "protocols",
    "ProtocolError": "errors",
    "Request": "http",
    "Response": "http",
    "Session": "session",
    "Timer": "timer",
    "Worker": "worker",
    "blocking": "threads",
    "computing": "processes",
    "connect": "connecting",
}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'gworker' has no attribute {name!r}")
    value = getattr(import_module(f"gworker.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
