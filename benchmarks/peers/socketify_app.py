"""The services on socketify: python peers/socketify_app.py SERVICE PORT.

Those that take a body are not among them: version 0.0.31 aborts when the garbage collector runs
while one is awaited, for nothing refers to the response then.
"""

import sys
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


def echo(socket: Any, message: bytes | str, opcode: OpCode) -> None:
    socket.send(message, opcode)


def main(service: str, port: int) -> None:
    app = App()
    if service == "ws":
        options = {"max_payload_length": 1 << 20, "idle_timeout": 0}
        app.ws("/*", {"compression": CompressOptions.DISABLED, "message": echo, **options})
    else:
        app.any("/*", globals()[service])
    app.listen(port)
    app.run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
