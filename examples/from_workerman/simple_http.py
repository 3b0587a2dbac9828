"""Workerman's first example: four processes that answer every request.

gworker examples/from_workerman/simple_http.py
"""

import os

from gworker import Connection, Request, Worker

http_worker = Worker(os.environ.get("LISTEN", "http://127.0.0.1:2345"), count=4)


@http_worker.on_message
def on_message(connection: Connection, request: Request) -> None:
    """`$request->get('name')` is `request.query.get("name")`."""
    connection.send(f"hello {request.query.get('name', 'world')}")
