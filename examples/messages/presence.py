"""The members of a room: a list that is right in every process, also over reconnects and deploys.

    gworker examples/messages/presence.py -w 4
    websocat ws://127.0.0.1:9502/lobby?name=Ada        # or any WebSocket client

A client gets the list when it comes, and then what changes. One that is back within three seconds
has never been away.
"""

import os

from gworker import Connection, Request, Worker, messages

messages.declare("room:*", presence=True)

people = Worker(os.environ.get("LISTEN", "ws://127.0.0.1:9502"), name="people")


@people.on_websocket_connect
def enter(connection: Connection, request: Request) -> None:
    """The path names the room; the name is what the others see."""
    connection.bind(request.query.get("name", "somebody"))
    connection.context.room = "room:" + (request.path.strip("/") or "lobby")
    connection.context.name = request.query.get("name", "somebody")


@people.on_message
def receive(connection: Connection, data: str | bytes) -> None:
    """The first message of a client, whatever it is, brings it into its room."""
    room = connection.context.room
    if room not in connection.groups:
        connection.join(room, presence={"name": connection.context.name})
    names = [member.presence["name"] for member in messages.members(room, limit=100)]
    connection.send({"here": names, "count": messages.count(room)})


@people.on_presence
def changed(
    group: str,
    joined: list[messages.Member],
    left: list[messages.Member],
    connections_here: list[Connection],
) -> None:
    """Called in every process that has members of the group."""
    news = {
        "joined": [each.presence["name"] for each in joined],
        "left": [each.presence["name"] for each in left],
    }
    for connection in connections_here:
        connection.send(news)
