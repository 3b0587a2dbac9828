"""Callbacks of a connection that take their time before its first message."""

import time

from recording import record

from gworker import Worker

worker = Worker("text://127.0.0.1:0", name="text")


@worker.on_connect
def connect(connection):
    record(connection, "connecting")
    time.sleep(0.3)
    record(connection, "connected")


@worker.on_message
def message(connection, line):
    record(connection, line)


@worker.on_close
def close(connection):
    record(connection, "close")


handled = Worker(
    "text://127.0.0.1:0",
    name="handled",
    handler=lambda connection: [connection.send("got " + line) for line in connection],
)
handled.on_connect = lambda connection: time.sleep(0.3)
