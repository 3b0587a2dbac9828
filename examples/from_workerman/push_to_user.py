"""The manual's message pusher: a page says its uid, a program pushes to it through an inner port.

    gworker examples/from_workerman/push_to_user.py

One process, as in the manual: `uid_connections` is the memory of one process. Push to user 5 with
`echo "5|hello" | nc -N 127.0.0.1 5678`, to all of them with `echo "|hello" | nc -N 127.0.0.1 5678`.
"""

import os

from gworker import Connection, Worker

worker = Worker(os.environ.get("LISTEN", "websocket://127.0.0.1:1234"), count=1)
uid_connections: dict[str, Connection] = {}


@worker.on_worker_start
def on_worker_start(worker: Worker) -> None:
    """A Worker made inside a process listens there, and shares its memory."""
    inner_text_worker = Worker(os.environ.get("INNER", "text://127.0.0.1:5678"))
    inner_text_worker.on_message = push
    inner_text_worker.listen()


def push(connection: Connection, line: str) -> None:
    """`UID|TEXT` from a program; an empty uid means all of them."""
    uid, _, text = line.partition("|")
    receivers = uid_connections.values() if not uid else filter(None, [uid_connections.get(uid)])
    sent = sum(receiver.send(text) for receiver in receivers)
    connection.send("ok" if sent else "fail")


@worker.on_message
def on_message(connection: Connection, data: str) -> None:
    """The first message is the uid."""
    if not hasattr(connection.context, "uid"):
        connection.context.uid = data
        uid_connections[data] = connection
        connection.send(f"you are {data}")


@worker.on_takeover
def on_takeover(connection: Connection) -> None:
    """After a deploy the new process has a new register."""
    if hasattr(connection.context, "uid"):
        uid_connections[connection.context.uid] = connection


@worker.on_close
def on_close(connection: Connection) -> None:
    if uid_connections.get(vars(connection.context).get("uid", "")) is connection:
        del uid_connections[connection.context.uid]
