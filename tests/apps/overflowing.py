"""What fills the send buffer of a client that reads nothing, in the smallest pieces that there
are."""

import gworker
from gworker import Worker
from gworker.http import Response

LIMIT = 262144
CONSTANT = bytes(range(256)) * 32_768


def fill_kernel(connection):
    """Else it would take a million system calls before anything waits here."""
    while not connection.send_queue:
        connection.send("x" * 100_000)


def until_refused(send):
    count = 0
    while send(""):
        count += 1
        if count > 5_000_000:
            raise RuntimeError("nothing is ever refused")


def flood(connection, message):
    fill_kernel(connection)
    until_refused(connection.send)


def broadcast(connection, message):
    fill_kernel(connection)
    until_refused(connection.worker.broadcast)


def dial(connection, url):
    """Send on a connection that is never open."""
    unopened = gworker.connect(url, max_send_buffer_size=LIMIT)
    connection.context.unopened = unopened
    until_refused(unopened.send)
    connection.send("refused")


def answer(connection, request):
    if request.path == "/fill":
        connection.max_send_buffer_size = 16 * LIMIT
        while not connection.send_queue:
            connection.send(b"x" * 100_000, raw=True)
    connection.send("")


def answer_constant(connection, request):
    if request.path == "/return":
        return CONSTANT
    return connection.send(
        CONSTANT if request.path == "/bytes" else Response(CONSTANT, headers={"X": "y"})
    )


text = Worker("text://127.0.0.1:0", name="text", on_message=flood, max_send_buffer_size=LIMIT)
websocket = Worker("ws://127.0.0.1:0", name="ws", on_message=flood, max_send_buffer_size=LIMIT)
everybody = Worker(
    "text://127.0.0.1:0", name="broadcast", on_message=broadcast, max_send_buffer_size=LIMIT
)
client = Worker("text://127.0.0.1:0", name="dial", on_message=dial)
http = Worker("http://127.0.0.1:0", name="http", on_message=answer)

constant = Worker("http://127.0.0.1:0", name="constant", on_message=answer_constant)

handlers = [text, websocket, everybody, client, http, constant]
