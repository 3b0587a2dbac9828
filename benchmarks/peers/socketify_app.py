"""The services on socketify: python peers/socketify_app.py SERVICE PORT."""

import json
import sys
from collections.abc import Callable
from typing import Any

from socketify import App, CompressOptions, OpCode


def hello(response: Any, request: Any) -> None:
    response.end("Hello, world")


def read(response: Any, request: Any) -> None:
    found = (
        request.get_url(),
        request.get_query("page"),
        request.get_header("accept-language"),
        request.get_cookie("session"),
    )
    response.end(" ".join(each or "" for each in found))


def respond(response: Any, request: Any) -> None:
    response.write_header("Content-Type", "text/plain")
    response.write_header("Cache-Control", "no-store")
    response.write_header("X-Page", request.get_query("page") or "")
    response.end("Hello, world")


def with_body(answer: Callable[[Any, bytes], None]) -> Callable[[Any, Any], None]:
    def collect(response: Any, request: Any) -> None:
        body = bytearray()

        def on_data(response: Any, piece: bytes | None, last: bool) -> None:
            body.extend(piece or b"")
            if last:
                answer(response, bytes(body))

        response.on_aborted(lambda _: None)
        response.on_data(on_data)

    return collect


@with_body
def document(response: Any, body: bytes) -> None:
    response.write_header("Content-Type", "application/json")
    response.end(json.dumps(json.loads(body or b"0")))


@with_body
def upload(response: Any, body: bytes) -> None:
    response.end(str(len(body)))


def echo(socket: Any, message: bytes | str, opcode: OpCode) -> None:
    socket.send(message, opcode)


def main(service: str, port: int) -> None:
    app = App()
    if service == "ws":
        app.ws("/*", {"compression": CompressOptions.DISABLED, "message": echo, "idle_timeout": 0})
    else:
        app.any("/*", globals()[service])
    app.listen(port)
    app.run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
