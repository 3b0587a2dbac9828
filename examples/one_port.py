"""A chat of which page and WebSocket share one port.

    gworker examples/one_port.py

Then open http://127.0.0.1:8000 in two windows.
"""

import os

from gworker import Connection, Request, Response, Worker

web = Worker(
    os.environ.get("LISTEN", "http://127.0.0.1:8000"), name="chat", count=1
)  # the room is in one process

PAGE = """<!doctype html><title>Chat</title><form id=form><input id=text autofocus></form>
<pre id=log></pre><script>
const socket = new WebSocket(location.href.replace(/^http/, "ws"));
socket.onmessage = event => log.append(event.data + "\\n");
form.onsubmit = event => { event.preventDefault(); socket.send(text.value); text.value = "" };
</script>
"""


@web.on_message
def answer(connection: Connection, message: Request | str | bytes) -> None:
    """Requests of HTTP, and what comes on the WebSockets that some of them have become."""
    if not isinstance(message, Request):
        web.broadcast(
            f"{connection.remote_port}: {message!s}"[:1000]
        )  # to the WebSockets: HTTP takes answers only
    elif message.is_websocket:
        message.upgrade()
        connection.send("welcome")
    elif message.path == "/":
        connection.send(PAGE)
    else:
        connection.send(Response("Not found\n", 404, content_type="text/plain"))
