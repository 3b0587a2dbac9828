"""Connections of every protocol that move to the successor of their process."""

import os
import threading
import time

from recording import record

import gworker
from gworker import Timer, Worker
from gworker.protocols import PackageProtocol


class Netstring(PackageProtocol):
    def package_length(self, buffer):
        if b":" not in buffer:
            return None
        digits = buffer.partition(b":")[0]
        return len(digits) + int(digits) + 2

    def decode(self, package):
        return package.partition(b":")[2][:-1].decode()

    def encode(self, message):
        return b"%d:%s," % (len(message), message.encode())


text = Worker("text://127.0.0.1:0", name="text", handover=True)
moving = [
    text,
    Worker("tcp://127.0.0.1:0", name="tcp", handover=True),
    Worker("frame://127.0.0.1:0", name="frame", handover=True),
    Worker("tcp://127.0.0.1:0", name="netstring", protocol=Netstring, handover=True),
    Worker(f"unix://{os.getcwd()}/path.sock", name="unix", protocol="text", handover=True),
    Worker("websocket://127.0.0.1:0", name="ws", handover=True),
    Worker("http://127.0.0.1:0", name="http", handover=True),
]
pair = Worker("text://127.0.0.1:0", name="pair", count=2, handover=True)
silent = Worker("text://127.0.0.1:0", name="silent", handover=True, idle_timeout=4)
stays = Worker("websocket://127.0.0.1:0", name="stays", handover=False)
straight = Worker("text://127.0.0.1:0", name="straight", handover=True)
handlers = [*moving, pair, silent, stays, straight]


def say(connection, message):
    if connection.protocol == "http":
        message = message.body.decode() or message.path[1:]
    if isinstance(message, bytes):
        message = message.decode()
    word, _, rest = message.partition(" ")
    if word == "pid":
        connection.send(str(os.getpid()))
    elif word == "who":
        c = connection
        story = getattr(c.context, "story", [])
        connection.send(
            f"{c.id} {c.remote_port} {c.bytes_read} {len(c.worker.connections)} {' '.join(story)}"
        )
    elif word == "remember":
        connection.context.story = [rest]
        connection.send("ok")
    elif word == "keep":
        connection.context.lock = threading.Lock() if rest == "lock" else lambda: None
        connection.send("kept")
    elif word == "sleep":
        time.sleep(float(rest))
        connection.send("slept")
    elif word == "own":
        connection.on_error = lambda *_: None
        connection.send("ok")
    elif word == "set":
        connection.max_send_buffer_size = 12345
        connection.max_package_size = 23456
        connection.send("ok")
    elif word == "get":
        connection.send(f"{connection.max_send_buffer_size} {connection.max_package_size}")
    elif word == "flood":
        connection.max_send_buffer_size = 10
        connection.send("x" * int(rest))
    elif word == "pause":
        connection.context.paused = True
        connection.pause_recv()
        connection.send("ok")
    elif word == "go":
        gworker.Worker.stop_all()
        connection.send("going")
    else:
        connection.send(message)


def drained(connection):
    record(connection, "drained", os.getpid())


def resume_later(connection):
    record(connection, "paused", os.getpid())
    Timer.add(0.3, connection.resume_recv, persistent=False)


def taken(connection):
    record(connection, "takeover", os.getpid())
    if getattr(connection.context, "paused", False):
        resume_later(connection)
    connection.context.story = [*getattr(connection.context, "story", []), "moved"]


for each in (*moving, pair, silent, stays):
    each.on_message = say
    each.on_takeover = taken
    each.on_buffer_drain = drained
    each.on_connect = lambda connection: record(connection, "connect", os.getpid())
    each.on_close = lambda connection: record(connection, "close", os.getpid())


@straight.handler
def talk(connection):
    for line in connection:
        say(connection, line)
