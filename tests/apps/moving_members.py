"""WebSockets that are members of groups, and bound to users, and move with all that."""

import os

from recording import record

from gworker import Worker, messages

messages.declare("kept.*", mode="recoverable")
messages.declare("seen.*", presence=True)

members = Worker("websocket://127.0.0.1:0", name="members", handover=True)
stays = Worker("websocket://127.0.0.1:0", name="stays", handover=False)
plain = Worker("text://127.0.0.1:0", name="plain", count=1, handover=True)


@members.on_message
@stays.on_message
@plain.on_message
def obey(connection, line):
    word, *rest = line.split()
    if word == "join":
        for group in rest:
            connection.join(group, presence={"n": 1} if group.startswith("seen.") else None)
    elif word == "leave":
        connection.leave(rest[0])
    elif word == "bind":
        connection.bind(rest[0])
    elif word == "name":
        connection.send(f"name {connection.client_id}")
        return
    elif word == "state":
        groups = " ".join(connection.groups)
        connection.send(f"state {connection.uid} {connection.client_id} {groups}")
        return
    elif word == "pid":
        connection.send(f"pid {os.getpid()}")
        return
    connection.send("done")


@members.on_presence
def changed(group, joined, left, here):
    record(group, f"{len(joined)} joined, {len(left)} left")


@members.on_gap
def gap(groups, since, until):
    record("gap", *groups)
