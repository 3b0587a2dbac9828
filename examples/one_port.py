"""A chat of which page and WebSocket share one port.

    gworker examples/one_port.py

Then open http://127.0.0.1:8000 in two windows.
"""

import os

from gworker import Connection, Request, Response, Worker

web = Worker(os.environ.get("LISTEN", "http://127.0.0.1:8000"), name="chat", count=1)  # the room is in one process
room: set[Connection] = set()

PAGE = """<!doctype html><title>Chat</title><form id=form><input id=text autofocus></form><pre id=log></pre><script>
const socket = new WebSocket(location.href.replace(/^http/, "ws"));
socket.onmessage = event => log.append(event.data + "\\n");
form.onsubmit = event => { event.preventDefault(); socket.send(text.value); text.value = "" };
</script>
"""


@web.on_message
def answer(connection: Connection, request: Request) -> None:
    if request.is_websocket:
        request.upgrade(on_message=say, on_close=room.discard)
        room.add(connection)
        connection.send(f"{len(room)} here")
    elif request.path == "/":
        connection.send(PAGE)
    else:
        connection.send(Response("Not found\n", 404, content_type="text/plain"))


def say(connection: Connection, text: str | bytes) -> None:
    """Tell everybody: `send` never blocks."""
    for each in list(room):
        each.send(f"{connection.remote_port}: {text!s}"[:1000])
