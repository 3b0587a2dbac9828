"""Groups of two modes for clients that check numbers while the broker fails. Each answer says how
many seconds the call took."""

import json
import os
import time

from gworker import BrokerDown, BrokerError, Worker, messages

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


CALLS = {
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
        else:
            result = CALLS[do](*arguments)
            answer["result"] = result if isinstance(result, (int, str)) else None
    except BrokerDown as error:
        answer |= {"down": str(error), "uncertain": error.uncertain}
    except BrokerError as error:
        answer |= {"refused": str(error)}
    answer["took"] = time.monotonic() - began
    connection.send(answer)


@room.on_gap
def gap(groups, since, until):
    for connection in list(room.connections.values()):
        connection.send({"gap": groups, "since": since, "until": until})


handlers = room
