"""Datagrams, unix sockets, and a Worker without any socket."""

import os
import time

from recording import record

import gworker
from gworker import Timer, Worker

packets = Worker("udp://127.0.0.1:0", name="packets")
texts = Worker("text://127.0.0.1:0", transport="udp", name="texts")
local = Worker("unix://" + os.path.abspath("local.sock"), name="local")
lines = Worker("unix://" + os.path.abspath("lines.sock"), protocol="text", name="lines")
nothing = Worker(name="nothing", count=2)
more = Worker("text://127.0.0.1:0", name="more")


@packets.on_message
def packet(connection, data):
    if data == b"raise":
        raise ZeroDivisionError("in a datagram")
    if data == b"sleep":
        time.sleep(0.5)
    if data == b"close":
        connection.close("closed")
        return
    if data == b"who":
        connection.send(
            f"{connection.remote_address} {connection.local_address} {connection.transport}"
        )
    elif data == b"too big":
        connection.send(f"{connection.send(b'x' * 70000)}")
    else:
        connection.send(data)


@packets.on_error
def failed(connection, code, message):
    record("udp", code.name, message)


@texts.on_message
def lines_of_a_datagram(connection, line):
    connection.send(f"<{line}>")


@local.on_message
def local_bytes(connection, data):
    c = connection
    connection.send(
        repr((data, c.protocol, c.transport, c.remote_ip, c.remote_port, c.remote_address))
    )


@lines.on_message
def local_line(connection, line):
    connection.send(line.upper())


@nothing.on_worker_start
def started(worker):
    record("nothing", "started", worker.id)
    Timer.add(0.05, lambda: record(f"timer-{worker.id}", "tick"))


@more.on_worker_start
def open_more(worker):
    record("more", "started", os.getpid())
    record("more", "listen", worker.listen("text://127.0.0.1:0"))
    record("more", "listen", worker.listen("udp://127.0.0.1:0"))
    try:
        worker.listen("tcp://127.0.0.1")
    except gworker.ConfigError as error:
        record("more", "refused", error)
    for address in ("udp://127.0.0.1:0", "tls://127.0.0.1:0"):
        inner = Worker(address)
        inner.on_message = answer
        try:
            inner.listen()
        except gworker.ConfigError as error:
            record("more", "inner refused", error)


@more.on_message
def answer(connection, data):
    if data == "stop":
        connection.send("stopping")
        Worker.stop_all()
        record("more", "called stop_all")
    elif data == "stopping?":
        connection.send(str(connection.worker.stopping))
    elif data == "sleep":
        record("more", "sleeping")
        while not connection.worker.stopping:
            time.sleep(0.02)
        time.sleep(0.2)
        connection.send("slept")
    else:
        connection.send(
            b"%s %d" % (data if isinstance(data, bytes) else data.encode(), os.getpid())
        )
