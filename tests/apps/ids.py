"""Tells the id of the connection, and the place of its process."""

import os

from gworker import Worker

text = Worker("text://127.0.0.1:0", name="text", handover=True)


@text.on_message
def tell(connection, line):
    worker = connection.worker
    connection.send(f"{connection.id} {worker.id} {worker.count} {os.getpid()}")
