"""A script that is its own server: several Workers, and the commands of gworker behind it.

    python examples/start.py start

and `start -d`, `status`, `reload`, `stop`: whatever the command `gworker` knows.
"""

import os

from gworker import Connection, Request, Worker

web = Worker(os.environ.get("WEB", "http://127.0.0.1:8000"), name="web", count=2)
lines = Worker(os.environ.get("LINES", "text://127.0.0.1:2007"), name="lines")


@web.on_message
def page(connection: Connection, request: Request) -> None:
    """A str is a whole response."""
    connection.send(f"<h1>Hello from process {connection.worker.id}</h1>\n")


@lines.on_message
def mirror(connection: Connection, line: str) -> None:
    """A second service, in processes of its own."""
    connection.send(line[::-1])


if __name__ == "__main__":
    Worker.run_all()  # never returns; worker processes load this file anew and stop here
