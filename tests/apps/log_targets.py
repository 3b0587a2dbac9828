"""A Worker that on request uses up its descriptors, or publishes; and one behind TLS if there is a
key."""

import contextlib
import logging
import os
import resource

from gworker import BrokerDown, Worker, messages

if os.path.exists("server.pem"):
    key = {"certfile": "server.pem", "keyfile": "server.key"}
    secure = Worker("tls://127.0.0.1:0", name="secure", tls=key)
    secure.on_message = lambda connection, data: connection.send(data)
plain = Worker("text://127.0.0.1:0", name="plain")
taken: list[int] = []


class Broken(logging.Handler):
    """What an application may give the log: here one that can never write."""

    def emit(self, record):
        raise OSError("the log server is down")


if "BROKEN_HANDLER" in os.environ:
    logging.getLogger("gworker").addHandler(Broken())


@plain.on_worker_start
def limit(worker):
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))


@plain.on_message
def answer(connection, line):
    if line == "take":
        take()
    elif line == "free":
        while taken:
            os.close(taken.pop())
    elif line == "join":
        connection.join("room")
    elif line == "publish":
        with contextlib.suppress(BrokerDown):
            messages.publish("room", "published")
    connection.send(line)


def take():
    """Open files until the system refuses."""
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return
