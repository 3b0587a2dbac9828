"""Applications of gevent-websocket, by the path of the handshake."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

import gevent
from geventwebsocket import Resource, WebSocketApplication, WebSocketError
from geventwebsocket.protocols.base import BaseProtocol

from gworker import Worker

told: list[str] = []


def log(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return ["\n".join(told).encode()]


def echo(socket: Any) -> None:
    while True:
        message = socket.receive()
        if message is None:
            break
        socket.send(f"{type(message).__name__} {message}" if message == "type" else message)
    told.append("echo has ended")
    try:
        socket.receive()
    except WebSocketError as error:
        told.append(str(error))


def say(socket: Any) -> None:
    """What its attributes are, before anything is sent."""
    told.append(f"{socket.path} {socket.protocol} {socket.version} {socket.origin}")
    handler = socket.handler
    told.append(str(handler.active_client.ws is socket and handler.websocket is socket))
    told.append(str(handler.server.application is application))
    socket.send(str(socket.closed))
    socket.send(bytearray(b"bytes"))
    socket.send("text", True)
    socket.send(b"text", False)
    socket.send_frame(b"pp", socket.OPCODE_PING)
    socket.send_frame("qq", socket.OPCODE_PONG)
    socket.receive()


def close(socket: Any) -> None:
    gevent.spawn_later(0.05, socket.close, 4001, "bye")
    told.append(f"received {socket.receive()}")
    told.append(f"closed {socket.closed}")
    try:
        socket.send("x")
    except WebSocketError as error:
        told.append(str(error))


def kept(socket: Any) -> None:
    """Nothing is done with the object but to keep it."""
    gevent.sleep(3)
    socket.send("late")


def crowd(socket: Any) -> None:
    """Takes its time: reading stops."""
    socket.send("go")
    time.sleep(0.5)
    count = 0
    while socket.receive() is not None:
        count += 1
        if count == 300:
            socket.send("all")


def collect(socket: Any) -> None:
    """Is late: the client has gone before."""
    gevent.sleep(0.3)
    told.append(str([socket.receive() for _ in range(3)]))


SOCKETS = {
    "/collect": collect,
    "/echo": echo, "/say": say, "/close": close, "/kept": kept, "/crowd": crowd,
    "/return": lambda socket: socket.send("x"), "/nothing": lambda socket: None,
}  # fmt: skip


def fails(socket: Any) -> None:
    socket.send("x")
    raise ValueError("on purpose")


SOCKETS["/fails"] = fails


def application(environ: dict[str, Any], start_response: Any) -> Any:
    path = environ["PATH_INFO"]
    socket = environ.get("wsgi.websocket")
    if path == "/log":
        return log(environ, start_response)
    if path == "/plain":
        told.append(f"plain {socket is None}")
        start_response("200 OK", [])
        return [b"plain"]
    if path == "/refused":
        start_response("403 No entry", [("Content-Length", "3")])
        return [b"no\n"]
    if path == "/later":
        return refused_later(start_response)
    if path == "/raises":
        raise ValueError("on purpose")
    if path == "/raw":
        return raw(environ)
    SOCKETS[path](socket)
    return []


def refused_later(start_response: Any) -> Any:
    try:
        start_response("401 Unauthorized", [])
        yield b"who "
        yield b"are you?"
    finally:
        told.append("iterable closed")


def raw(environ: dict[str, Any]) -> Any:
    client = environ["gunicorn.socket"]
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    client.sendall(client.recv(100))
    try:
        environ["wsgi.websocket"].send("x")
    except WebSocketError as error:
        told.append(f"raw {error}")
    raise StopIteration


class Named(BaseProtocol):  # type: ignore[misc]
    PROTOCOL_NAME = "v1.chat"


class Chat(WebSocketApplication):  # type: ignore[misc]
    protocol_class = Named

    def on_open(self) -> None:
        self.ws.send("welcome " + self.protocol_name())
        if self.ws.path.endswith("ask"):
            self.ws.send("hello " + self.ws.receive())

    def on_message(self, message: Any) -> None:
        if message == "who":
            self.ws.send(str(self.ws.environ["HTTP_HOST"]) + str("key" in self.ws.environ))
        elif message == "fail":
            raise ValueError("on purpose")
        else:
            for client in list(self.ws.handler.server.clients.values()):
                client.ws.send(f"{len(self.ws.handler.server.clients)} {message}")

    def on_close(self, reason: Any) -> None:
        told.append(f"chat closed {reason}")


class Tagged:
    """A middleware that leaves something in the environ."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self.app_protocol = application.app_protocol

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/tagged":
            environ["key"] = "value"
        return self.application(environ, start_response)


resource = Resource(OrderedDict([("^/(chat|tagged)", Chat), ("^/", log)]))
pages = Worker("http://127.0.0.1:0", name="pages", wsgi=application)
rooms = Worker("http://127.0.0.1:0", name="rooms", wsgi=Tagged(resource))
eager = Worker("http://127.0.0.1:0", name="eager", wsgi=application, websocket_accept="eager")
both = Worker("http://127.0.0.1:0", name="both", wsgi=application)


@both.on_websocket_connect
def decide(connection: Any, request: Any) -> Any:
    if request.path == "/forbidden":
        connection.close()
        return None
    if request.path == "/ours":
        connection.subprotocol = "ours"
        connection.headers = {"X-Ours": "yes"}
        return None
    return False


@both.on_message
def shout(connection: Any, data: Any) -> None:
    connection.send(data.upper())


handlers = [pages, rooms, eager, both]
