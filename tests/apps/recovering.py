"""Rooms that keep their messages: a client joins with its position, and is told of gaps."""

import json

from gworker import BrokerDown, Worker, messages

messages.declare(
    "kept*",
    mode="recoverable",
    history=2000,
    wrap=lambda message, position: {"at": position, "message": message},
)

room = Worker("text://127.0.0.1:0", name="room")


@room.on_message
def obey(connection, data):
    do, group, argument = json.loads(data)
    try:
        if do == "join":
            joined = connection.join(group, since=argument)
            connection.send({"joined": joined.recovered, "at": joined.position})
        else:
            messages.publish(group, argument)
            connection.send({"published": argument})
    except BrokerDown as error:
        connection.send({"down": do, "uncertain": error.uncertain})


@room.on_gap
def gap(groups, since, until):
    for connection in list(room.connections.values()):
        connection.send({"gap": groups})


handlers = room
