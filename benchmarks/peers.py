"""The same services on gevent's own servers, to compare with.

python peers.py tcp|text|http|ws PORT      StreamServer, StreamServer, pywsgi, gevent-websocket
gunicorn -k gevent peers:application       gunicorn's gevent worker
"""

from gevent import monkey

if __name__ == "__main__":
    monkey.patch_all()  # as any application with blocking code would; gunicorn does it itself

import sys
from collections.abc import Callable, Iterable
from typing import Any

from gevent.pywsgi import WSGIServer
from gevent.server import StreamServer

BODY = b"Hello, world"


def echo(connection: Any, address: object) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def echo_lines(connection: Any, address: object) -> None:
    with connection.makefile("rb") as lines:
        for line in lines:
            connection.sendall(line.rstrip(b"\r\n").decode().encode() + b"\n")


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))])
    return [BODY]


def echo_frames(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    websocket = environ["wsgi.websocket"]
    while (message := websocket.receive()) is not None:
        websocket.send(message)
    return []


def make_server(mode: str, port: int) -> StreamServer:
    address = ("127.0.0.1", port)
    if mode == "tcp":
        return StreamServer(address, echo, backlog=1024)
    if mode == "text":
        return StreamServer(address, echo_lines, backlog=1024)
    if mode == "http":
        return WSGIServer(address, application, backlog=1024, log=None)
    if mode == "ws":
        from geventwebsocket.handler import WebSocketHandler

        return WSGIServer(
            address, echo_frames, backlog=1024, log=None, handler_class=WebSocketHandler
        )
    raise SystemExit(f"no such mode: {mode}")


if __name__ == "__main__":
    make_server(sys.argv[1], int(sys.argv[2])).serve_forever()
