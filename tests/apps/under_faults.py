"""Groups of two modes for clients that check numbers while the broker fails. Each answer says how
many seconds the call took."""

import json
import os
import socket
import time

import gevent

from gworker import BrokerDown, BrokerError, Worker, messages

# The way to the local broker leads through a proxy, where there is one.
PROXY = os.path.abspath("proxy")
connect = socket.socket.connect


def connect_by_proxy(self, address):
    is_local = self.family == socket.AF_UNIX
    connect(self, PROXY if is_local and os.path.exists(PROXY) else address)


socket.socket.connect = connect_by_proxy

messages.declare(
    "kept*",
    mode="recoverable",
    history=5000,
    wrap=lambda message, position: {"at": position, "n": message[0]},
)
messages.declare("seen*", presence=True)

room = Worker("text://127.0.0.1:0", name="room", handover=True)


def child():
    pid = os.fork()
    if not pid:
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def flood(group):
    """Publish much at once: how many messages were not taken, and the longest call."""

    def publish():
        began = time.monotonic()
        try:
            messages.publish(group, {"large": "x" * 500_000})
            is_lost = False
        except BrokerDown:
            is_lost = True
        return is_lost, time.monotonic() - began

    jobs = gevent.joinall([gevent.spawn(publish) for _ in range(50)])
    lost, took = zip(*(each.value for each in jobs), strict=True)
    return sum(lost), max(took)


CALLS = {
    "state": lambda: messages.state,
    "publish": messages.publish,
    "broadcast": messages.broadcast,
    "send": messages.send,
    "count": messages.count,
    "members": lambda group: len(messages.members(group)),
    "history": lambda group: len(messages.history(group)),
    "set": messages.data.set,
    "get": messages.data.get,
    "pid": os.getpid,
    "fork": child,
}


@room.on_message
def obey(connection, data):
    do, *arguments = json.loads(data)
    began = time.monotonic()
    answer = {"did": do}
    try:
        if do == "join":
            joined = connection.join(arguments[0], since=arguments[1])
            answer |= {"recovered": joined.recovered, "at": joined.position}
        elif do == "enter":
            connection.join(arguments[0], presence={})
        elif do == "bind":
            connection.bind(*arguments)
        elif do == "leave":
            connection.leave(*arguments)
        elif do == "flood":
            answer["result"], answer["took"] = flood(*arguments)
        else:
            result = CALLS[do](*arguments)
            answer["result"] = result if isinstance(result, (int, str)) else None
    except BrokerDown as error:
        answer |= {"down": str(error), "uncertain": error.uncertain}
    except BrokerError as error:
        answer |= {"refused": str(error)}
    answer.setdefault("took", time.monotonic() - began)
    connection.send(answer)


@room.on_gap
def gap(groups, since, until):
    for connection in list(room.connections.values()):
        connection.send({"gap": groups, "since": since, "until": until})


@room.on_broker_state
def changed(state):
    for connection in list(room.connections.values()):
        connection.send({"state": state})


handlers = room
