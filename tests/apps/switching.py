"""Connections that change their protocol."""

import os
import time

from recording import record

from gworker import Timer, Worker
from gworker.protocols import PackageProtocol


class Pair(PackageProtocol):
    def package_length(self, buffer):
        return 2

    def decode(self, package):
        return package

    def encode(self, message):
        return message.encode() if isinstance(message, str) else message


switching = Worker("text://127.0.0.1:0", name="switching", lockstep=True, handover=True)
straight = Worker("text://127.0.0.1:0", name="straight", lockstep=True)
ahead = Worker("text://127.0.0.1:0", name="ahead")
handlers = [switching, straight, ahead]
PROTOCOLS = {
    "FRAME": "frame",
    "TEXT": "text",
    "PAIR": Pair,
    "XX": "text",
    "OWN": Pair(100),
    "NONE": "nosuch",
}


@switching.on_message
def say(connection, message):
    word = message if isinstance(message, str) else message.decode()
    if word in PROTOCOLS:
        connection.send("ok")
        connection.switch(PROTOCOLS[word])
    elif word == "LATER":
        Timer.add(0.05, connection.switch, ["frame"], persistent=False)
    elif word == "slow":
        time.sleep(0.3)
        connection.send("slow")
        connection.switch("frame")
    elif word == "pid":
        connection.send(str(os.getpid()))
    else:
        connection.send(message)


@switching.on_close
def closed(connection):
    record(connection, "closed", connection.protocol)


@straight.handler
def serve(connection):
    for message in connection:
        if message == "FRAME":
            connection.send("ok")
            connection.switch("frame")
        elif message == b"TEXT":
            connection.send("ok")
            connection.switch("text")
        else:
            connection.send(message)


@ahead.on_message
def refuse(connection, line):
    try:
        connection.switch("frame")
    except RuntimeError as error:
        connection.send(str(error))
