"""Rooms whose members hear of joins and leaves."""

import json
import os

from gworker import BrokerDown, Worker, messages

messages.declare("room.*", presence=True)

lobby = Worker("text://127.0.0.1:0", name="lobby", handover=False)
moving = Worker("text://127.0.0.1:0", name="moving", handover=True)


@lobby.on_message
@moving.on_message
def obey(connection, line):
    name, *given = json.loads(line)
    if name == "join":
        group, uid = given
        connection.bind(uid)
        connection.join(group, presence={"of": uid})
        answer = os.getpid()
    elif name == "leave":
        answer = connection.leave(*given)
    elif name == "pid":
        answer = os.getpid()
    else:
        try:
            answer = {"count": messages.count, "is_online": messages.is_online}[name](*given)
        except BrokerDown:
            answer = "down"
    connection.send({"answer": answer})


@lobby.on_presence
@moving.on_presence
def tell(group, joined, left, connections_here):
    for connection in connections_here:
        connection.send({"joined": joined, "left": left})


handlers = [lobby, moving]
