"""Connections that do what their peers ask for, and record what happens to them."""

import contextvars
import sys
import threading
import time

from recording import outside, record

from gworker import Worker

life = Worker("text://127.0.0.1:0", name="life")
limited = Worker("text://127.0.0.1:0", name="limited", max_connections=2, idle_timeout=1)
web = Worker("http://127.0.0.1:0", header_timeout=0.5)
socks = Worker("websocket://127.0.0.1:0", handshake_timeout=0.5)

armed = set()
context = contextvars.ContextVar("context", default="unset")
local = threading.local()
local.everywhere = True
peers = {}


def on_connect(connection):
    peers[connection.remote_port] = connection
    record(connection, "connect")
    if "connect" in armed:
        armed.remove("connect")
        raise ZeroDivisionError("in on_connect")


def on_close(connection):
    record(connection, "close", connection.status)


def on_error(connection, code, message):
    record(connection, "error", code.name, message)


def on_message(connection, line):
    word, _, rest = line.partition(" ")
    if word == "sleep":
        record(connection, "begin", rest)
        time.sleep(float(rest))
        record(connection, "end", rest)
        connection.send("slept " + rest)
    elif word == "echo":
        record(connection, "message", rest)
        connection.send(rest)
    elif word == "close":
        connection.close("bye")
    elif word == "close-then-send":
        connection.close()
        record(connection, "sent", connection.send("late"))
    elif word == "destroy":
        connection.destroy()
    elif word == "arm":
        armed.add("connect")
        connection.send("armed")
    elif word == "boom":
        boom(connection, rest)
    elif word == "destroy-other":
        peers[int(rest)].destroy()
    elif word == "raise":
        raise ZeroDivisionError("in on_message")
    elif word == "exit":
        sys.exit(3)
    elif word == "own":
        connection.on_message = lambda c, line: c.send("own " + line)
        connection.on_close = lambda c: record(c, "own close")
    elif word == "remember":
        connection.context.word = rest
    elif word == "recall":
        connection.send(getattr(connection.context, "word", "nothing"))
    elif word == "who":
        c = connection
        connection.send(
            " ".join(
                map(
                    str,
                    (
                        c.remote_ip,
                        c.remote_port,
                        c.remote_address,
                        c.local_ip,
                        c.local_port,
                        c.local_address,
                        c.status,
                        c.protocol,
                        c.transport,
                        c.worker.name,
                        c.worker.connections[c.id] is c,
                    ),
                )
            )
        )
    elif word == "bytes":
        connection.send(f"{connection.bytes_read} {connection.bytes_written}")
    elif word == "id":
        connection.send(str(connection.id))
    elif word == "ids":
        connection.send(str(len(connection.worker.connections)))
    elif word == "limits":
        connection.send(f"{connection.max_send_buffer_size} {connection.max_package_size}")
    elif word == "variable":
        before = context.get()
        context.set(rest)
        connection.send(before)
    elif word == "local":
        before = getattr(local, "value", "unset")
        local.value = rest
        time.sleep(0.1)
        connection.send("same" if local.value == rest else "mixed up")
    elif word == "spawn-send":
        outside(lambda: (time.sleep(0.05), connection.send("from outside")))
    elif word == "unencodable":
        connection.send(object())
    else:
        connection.send("? " + line)


for each in (life, limited):
    each.on_connect = on_connect
    each.on_close = on_close
    each.on_error = on_error
    each.on_message = on_message


def boom(connection, name):
    # Provoke every callback of this connection; the one called `name` raises.

    def raiser(this):
        def callback(connection, *arguments):
            record(connection, this)
            if this == name:
                raise ZeroDivisionError("in " + this)

        return callback

    for each in ("on_close", "on_error", "on_buffer_full", "on_buffer_drain"):
        setattr(connection, each, raiser(each))
    raiser("on_message")(connection)
    # The kernel takes as much as the client reads meanwhile. Until the buffer is full:
    # on_buffer_full, on_error for what is refused, and on_buffer_drain once all is read.
    while connection.send("x" * 8_000_000):
        pass


@web.on_message
def answer(connection, request):
    connection.send(request.path)


@socks.on_message
def echo(connection, data):
    connection.send(data)
