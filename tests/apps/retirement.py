"""Workers whose connections cannot move, next to some whose connections can, when their processes
retire.

TLS: a directory with site.pem and site.key. ONLY: the names of the Workers that are to run.
"""

from __future__ import annotations

import os
import socketserver
import time

import gevent

from gworker import Worker

TLS = {"certfile": f"{os.environ['TLS']}/site.pem", "keyfile": f"{os.environ['TLS']}/site.key"}


def echo(connection, data):
    """HTTP: the body and the process that answers."""
    if connection.protocol == "http":
        connection.send(data.body + b" %d" % os.getpid())
    else:
        connection.send(data)


def forgotten(connection):
    """A register would be kept here."""


def talk(connection):
    for line in connection:
        connection.send(line)


class Legacy(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)


def count(connection, line):
    """Send numbers from a greenlet of its own, for as long as they are taken; or hold up the end of
    the process."""
    if line == "hold":
        time.sleep(5)
    else:
        gevent.spawn(push, connection)


def push(connection):
    number = 0
    while connection.send(f"{os.getpid()} {number}"):
        number += 1
        time.sleep(0.0005)
    with open("refused", "a") as file:
        file.write(f"{number}\n")


def refused(connection, code, message):
    with open("errors", "a") as file:
        file.write(f"{message}\n")


handlers = [
    Worker("http://127.0.0.1:0", name="web", on_message=echo),
    Worker("http://127.0.0.1:0", name="web-false", on_message=echo, handover=False),
    Worker("text://127.0.0.1:0", name="numbers", on_message=count, on_error=refused),
    Worker("https://127.0.0.1:0", name="https", on_message=echo, tls=TLS),
    Worker("http://127.0.0.1:0", name="http", on_message=echo, on_close=forgotten),
    Worker("websocket://127.0.0.1:0", name="ws", on_message=echo, on_close=forgotten, count=2),
    Worker("tcp://127.0.0.1:0", name="tcp", on_message=echo, handover=False),
    Worker("text://127.0.0.1:0", name="text", on_message=echo, on_close=forgotten),
    Worker("frame://127.0.0.1:0", name="frame", on_message=echo, on_close=forgotten),
    Worker("text://127.0.0.1:0", name="tls", transport="ssl", on_message=echo, tls=TLS),
    Worker("text://127.0.0.1:0", name="handler", handler=talk),
    Worker("tcp://127.0.0.1:0", name="legacy", handler=Legacy),
]
handlers = [each for each in handlers if each.name in os.environ["ONLY"].split(",")]
