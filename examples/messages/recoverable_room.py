"""A room whose clients miss no message: the page says where it was when it comes back.

    gworker examples/messages/recoverable_room.py -w 4

Open http://127.0.0.1:8005, close the laptop for a minute, open it again: what was said meanwhile
appears. After ten minutes, or after more messages than are kept, the page is told so and begins
anew.
"""

import json
import os
from pathlib import Path

from gworker import Connection, Request, Response, Worker, messages

SOCKET = os.environ.get("ROOM_WS", "ws://127.0.0.1:9505")
ROOM = "room:lobby"

messages.declare(
    "room:*",
    mode="recoverable",
    history=200,
    ttl=600,
    wrap=lambda message, position: {"text": message, "at": position},
)

room = Worker(SOCKET, name="room")
web = Worker(os.environ.get("ROOM_HTTP", "http://127.0.0.1:8005"), name="web")
PAGE = Path(__file__).with_suffix(".html").read_text().replace("{{socket}}", SOCKET)


@web.on_message
def serve(connection: Connection, request: Request) -> None:
    connection.send(Response(PAGE, content_type="text/html; charset=utf-8"))


@room.on_message
def receive(connection: Connection, data: str) -> None:
    """The page says where it was (null: nowhere yet), then what its user says."""
    message = json.loads(data)
    if "since" in message:
        joined = connection.join(ROOM, since=message["since"])
        connection.send(
            {"recovered": joined.recovered, "missed": joined.missed, "at": joined.position}
        )
    else:
        messages.publish(ROOM, str(message["say"])[:1000])
