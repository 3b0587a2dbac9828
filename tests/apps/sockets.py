"""Datagrams and unix sockets that tell what they know of their ends."""

import os
import socketserver
import time

from recording import outside, record

from gworker import Worker
from gworker.protocols import PackageProtocol


class Pairs(PackageProtocol):
    def package_length(self, buffer):
        return 2

    def decode(self, package):
        return package.decode()

    def encode(self, message):
        return message.encode()


everywhere = Worker("udp://0.0.0.0:0", name="everywhere")
both = Worker("udp://[::]:0", name="both")
pairs = Worker("udp://127.0.0.1:0", name="pairs", protocol=Pairs)
many = Worker("udp://127.0.0.1:0", name="many", reuse_port=True, count=2)


class Legacy(socketserver.DatagramRequestHandler):
    def handle(self):
        self.wfile.write(b"legacy " + self.rfile.read())


legacy = Worker("udp://0.0.0.0:0", name="legacy", handler=Legacy)
private = Worker(
    "unix://" + os.path.abspath("private.sock"), name="private", unix_mode=0o600, handover=True
)
abstract = Worker(f"unix://@gworker-test-{os.getcwd()}"[:100], name="abstract")
handlers = [everywhere, both, pairs, many, legacy, private, abstract]

kept = []
ticks = []


def packet(connection, data):
    if data == b"who":
        connection.send(f"{connection.remote_ip} {connection.local_ip} {connection.local_port}")
    elif data == b"later":
        kept.append(connection)
    elif data == b"now":
        connection.send(str(sum(each.send("kept") for each in kept)))
        kept.clear()
    elif data == b"count":
        ticks.append(time.monotonic())
        outside(count, connection)
    elif data == b"flood":
        time.sleep(0)
    elif data == b"pid":
        connection.send(f"{os.getpid()} {connection.worker.id}")
    elif data == b"slow":
        record(os.getpid(), "slow")
        time.sleep(0.3)
        connection.send("slow")
    else:
        connection.send(data)


def count(connection):
    for _ in range(10):
        time.sleep(0.02)
    connection.send(f"{time.monotonic() - ticks.pop()}")


def line(connection, data):
    connection.send(repr(connection.peer_credentials and tuple(connection.peer_credentials)))


for each in (everywhere, both, many):
    each.on_message = packet


@pairs.on_message
def pair(connection, message):
    connection.send(f"<{message}>")


@abstract.on_message
def name(connection, data):
    connection.send(f"{connection.transport} {connection.local_address}")


private.on_message = line
