"""Socket.IO over long polling: each request of a client has to reach the same process."""

from __future__ import annotations

from typing import Any

# Middlewares of Socket.IO inherit from it; Flask-SocketIO puts one into `app.wsgi_app`.
MIDDLEWARE = "engineio.middleware.WSGIApp"

WARNING = (
    "Socket.IO with %d processes: a client that polls has to come to the same process each time, "
    "and the kernel spreads its requests. Have clients use transports: ['websocket'], or run one "
    "process (-w 1) for each address, behind a proxy that keeps a client with one of them; in "
    "either case what is emitted to all needs Socket.IO's message queue"
)


def polls(application: Any) -> bool:
    """Whether a Socket.IO server that answers long polling is in front of, or is, an application.
    Nothing is imported for that."""
    each: Any
    for each in (application, getattr(application, "wsgi_app", None)):
        names = {f"{base.__module__}.{base.__qualname__}" for base in type(each).__mro__}
        if MIDDLEWARE in names:
            server = each.engineio_app
            server = getattr(server, "eio", server)  # Socket.IO's has one of Engine.IO
            return "polling" in (getattr(server, "transports", None) or ["polling"])
    return False
