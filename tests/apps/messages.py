"""A chat over all processes: rooms, users, and what is told from anywhere."""

import json
import os

from gworker import BrokerDown, Worker, messages

messages.declare("kept.*", mode="recoverable", history=50)
messages.declare("seen.*", presence=True)

chat = Worker("websocket://127.0.0.1:0", name="chat", handover=True)
lines = Worker("text://127.0.0.1:0", name="lines", count=1)
web = Worker("http://127.0.0.1:0", name="web", count=1)
dgram = Worker("udp://127.0.0.1:0", name="dgram", count=1)

heard = []


@chat.on_worker_start
def start(worker):
    messages.subscribe("audit", heard.append)


CALLS = {
    "publish": messages.publish,
    "publish_many": messages.publish_many,
    "broadcast": messages.broadcast,
    "send": messages.send,
    "send_to_user": messages.send_to_user,
    "close": messages.close,
    "join_from": messages.join,
    "leave_from": messages.leave,
    "disband": messages.disband,
    "members": messages.members,
    "count": messages.count,
    "is_online": messages.is_online,
    "connections": messages.connections,
    "history": messages.history,
    "position": messages.position,
    "set": messages.data.set,
    "get": messages.data.get,
    "increment": messages.data.increment,
    "heard": lambda: heard,
    "pid": os.getpid,
    "state": lambda: messages.state,
}


@chat.on_message
@lines.on_message
def obey(connection, data):
    name, arguments, keywords = json.loads(data)
    if keywords.pop("without_me", False):
        keywords["exclude"] = connection
    own = {
        "join": connection.join,
        "leave": connection.leave,
        "bind": connection.bind,
        "unbind": connection.unbind,
        "groups": lambda: connection.groups,
        "uid": lambda: connection.uid,
        "id": lambda: connection.client_id,
    }
    try:
        answer = {**CALLS, **own}[name](*arguments, **keywords)
        if isinstance(answer, messages.Published):
            answer = {"position": answer.position, "receivers": answer.receivers}
    except (TypeError, ValueError, BrokerDown) as error:
        answer = f"{type(error).__name__}: {error}"
    connection.send({"answer": answer})


@web.on_message
def page(connection, request):
    try:
        connection.join("room")
    except TypeError as error:
        return str(error)
    return "joined"


@dgram.on_message
def datagram(connection, data):
    try:
        connection.join("room")
    except TypeError as error:
        connection.send(str(error))


handlers = [chat, lines, web, dgram]
