"""Which applications answer long polling of Socket.IO."""

from __future__ import annotations

from typing import Any

import socketio
from flask import Flask
from flask_socketio import SocketIO

from gworker.wsgi.socket_io import polls


def server(**options: Any) -> Any:
    return socketio.Server(async_mode="gevent", **options)


def test_a_server_of_socket_io_polls() -> None:
    assert polls(socketio.WSGIApp(server()))
    app = Flask("shop")
    assert not polls(app)
    SocketIO(app, async_mode="gevent")
    assert polls(app)


def test_one_of_websockets_alone_does_not() -> None:
    assert not polls(socketio.WSGIApp(server(transports=["websocket"])))


def test_what_is_none_does_not() -> None:
    assert not polls(lambda environ, start_response: [])
