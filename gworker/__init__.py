"""gworker: a prefork network server that lets blocking Python code serve thousands of connections.

The public names are imported when they are first used, so that `import gworker` in the arbiter
loads neither gevent nor any protocol.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gworker.version import __version__

if TYPE_CHECKING:
    from gworker.app.handler_timeout import handler_timeout
    from gworker.app.worker import Worker
    from gworker.client.connect import connect
    from gworker.client.connection import ClientConnection
    from gworker.connection.connection import Connection, Session
    from gworker.errors import (
        BrokerDown,
        BrokerError,
        ConfigError,
        ErrorCode,
        GworkerError,
        HandlerTimeout,
        LoadError,
        ProtocolError,
    )
    from gworker.http import Request, Response
    from gworker.messages.publisher import Publisher
    from gworker.process.computing import computing
    from gworker.process.thread_pool import blocking
    from gworker.process.timer import Timer
    from gworker.protocols import PackageProtocol

__all__ = [
    "BrokerDown",
    "BrokerError",
    "ClientConnection",
    "ConfigError",
    "Connection",
    "ErrorCode",
    "GworkerError",
    "HandlerTimeout",
    "LoadError",
    "PackageProtocol",
    "ProtocolError",
    "Publisher",
    "Request",
    "Response",
    "Session",
    "Timer",
    "Worker",
    "__version__",
    "blocking",
    "computing",
    "connect",
    "handler_timeout",
]

_HOME = {
    "BrokerDown": "errors",
    "BrokerError": "errors",
    "ClientConnection": "client.connection",
    "ConfigError": "errors",
    "Connection": "connection.connection",
    "ErrorCode": "errors",
    "GworkerError": "errors",
    "HandlerTimeout": "errors",
    "LoadError": "errors",
    "PackageProtocol": "protocols",
    "ProtocolError": "errors",
    "Publisher": "messages.publisher",
    "Request": "http",
    "Response": "http",
    "Session": "connection.connection",
    "Timer": "process.timer",
    "Worker": "app.worker",
    "blocking": "process.thread_pool",
    "computing": "process.computing",
    "connect": "client.connect",
    "handler_timeout": "app.handler_timeout",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gworker' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"gworker.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
