"""The least that a process in Python can do to receive messages from Redis and pass them on: one
epoll, hiredis, sockets. python benchmarks/floor.py PORT REDIS_PORT CLUSTER

It takes the place of the members' process of rooms_app.py: WebSockets whose clients join one group
each, of which each gets its messages in a frame made ready.
"""

from __future__ import annotations

import select
import socket
import sys
from collections import defaultdict

import hiredis
from measure import HOST

from gworker.broker.redis.operations import prefixes_of
from gworker.broker.redis.partitions import partition_of

READ = 65536
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
BODY = 4  # bytes before the text of a message: delivery, kind, length of an empty header


def main() -> None:
    port, redis_port, cluster = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    prefixes = prefixes_of(cluster)
    listener = socket.create_server((HOST, port), backlog=4096)
    redis = socket.create_connection((HOST, redis_port))
    reader = hiredis.Reader()
    members: defaultdict[bytes, list[socket.socket]] = defaultdict(list)
    clients: dict[int, socket.socket] = {}
    greeted: set[int] = set()
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    poll.register(redis, select.EPOLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == redis.fileno():
                reader.feed(redis.recv(READ))
                while message := reader.gets():
                    if message[0] == b"smessage":
                        text = message[2][BODY:]
                        frame = b"\x81%c%b" % (len(text), text)
                        for member in members[message[1]]:
                            member.send(frame)
                    else:  # the subscription is confirmed
                        number = message[1].rpartition(b"-")[2]
                        for member in members[message[1]]:
                            member.send(b"\x81%c#J %b" % (3 + len(number), number))
            elif descriptor == listener.fileno():
                client, _ = listener.accept()
                clients[client.fileno()] = client
                poll.register(client, select.EPOLLIN)
            else:
                data = receive(clients[descriptor])
                if not data:
                    greeted.discard(descriptor)
                    poll.unregister(descriptor)
                    clients.pop(descriptor).close()
                elif descriptor not in greeted:
                    greeted.add(descriptor)
                    clients[descriptor].send(ACCEPTED)
                else:
                    number = joined(data)
                    channel = b"g:room-%b" % number
                    name = prefixes[partition_of(channel)] + channel
                    members[name].append(clients[descriptor])
                    redis.sendall(b"*2\r\n$10\r\nSSUBSCRIBE\r\n$%d\r\n%b\r\n" % (len(name), name))


def receive(client: socket.socket) -> bytes:
    try:
        return client.recv(READ)
    except ConnectionResetError:
        return b""


def joined(frame: bytes) -> bytes:
    """The group of a masked "#j GROUP"."""
    mask, text = frame[2:6], frame[6:]
    return bytes(each ^ mask[place % 4] for place, each in enumerate(text)).split()[1]


if __name__ == "__main__":
    main()
