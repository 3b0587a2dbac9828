"""A file sent in pieces: stop when the send buffer is full, go on when it has drained.

    FILE=movie.mp4 gworker examples/from_workerman/send_file.py

The manual writes it with callbacks, because PHP may not wait. Here the handler may: `drain` waits
for this connection and no other. (Over HTTP, `Response.file` does all of it.)
"""

import os

from gworker import Connection, Worker

FILE = os.environ.get("FILE", __file__)

worker = Worker(os.environ.get("LISTEN", "text://127.0.0.1:8485"), max_send_buffer_size=64 * 1024)


@worker.on_buffer_full
def on_buffer_full(connection: Connection) -> None:
    """As in Workerman: what was given to `send` is kept, further data would be refused."""
    connection.context.pauses = vars(connection.context).get("pauses", 0) + 1


@worker.on_message
def on_message(connection: Connection, line: str) -> None:
    """Any line asks for the file."""
    with open(FILE, "rb") as file:
        while data := file.read(64 * 1024):
            connection.send(data, raw=True)
            connection.drain()
    connection.close()
