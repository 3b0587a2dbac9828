"""A stub of worker processes at a Redis cluster: subscribes and publishes, and counts what comes.

    python benchmarks/stub.py PORT,PORT,PORT GROUPS SHARE NUMBER OF LINKS WINDOW

It stands for LINKS processes, each with a link to each server for messages; one link to each is for
commands, with WINDOW of them in flight. GROUPS groups exist. Each has subscribers in SHARE of the
processes of all OF stubs; this stub has the NUMBER. Prints "ready"; upon SIGUSR1 publishes; upon
SIGTERM stops, and prints its counts as JSON.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import sys
import threading

from measure import HOST

from gworker.broker.redis.operations import prefixes_of
from gworker.broker.redis.partitions import SLOT_OF_PARTITION, SLOTS, partition_of

READ = 1 << 20
BODY = b"\0t\0\0" + b"x" * 100
PREFIXES = prefixes_of("stub")
stopped = threading.Event()


def name_of(number: int) -> tuple[int, bytes]:
    """A group's partition and the name of its channel. All names have one length."""
    channel = b"g:room-%06d" % number
    partition = partition_of(channel)
    return partition, PREFIXES[partition] + channel


def push_size() -> int:
    name = name_of(0)[1]
    push = b"*3\r\n$8\r\nsmessage\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
    return len(push % (len(name), name, len(BODY), BODY))


def main() -> None:
    ports = [int(port) for port in sys.argv[1].split(",")]
    groups, share, number, stubs, link_count, window = map(int, sys.argv[2:])
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    of_node: list[list[bytes]] = [[] for _ in ports]
    wanted: list[list[list[bytes]]] = [[[] for _ in ports] for _ in range(link_count)]
    for group in range(groups):
        partition, name = name_of(group)
        node = SLOT_OF_PARTITION[partition] * len(ports) // SLOTS
        for link in range(link_count):
            if (group + number * link_count + link) % (stubs * link_count) < share:
                wanted[link][node].append(name)
        if group % stubs == number:
            of_node[node].append(name)
    subscribers = [
        subscribe(port, names)
        for process in wanted
        for port, names in zip(ports, process, strict=True)
    ]
    print("ready", flush=True)
    signal.sigwait({signal.SIGUSR1})
    received, published = exchange(subscribers, ports, of_node, window)
    print(json.dumps({"received": received // push_size(), "published": published}), flush=True)


def subscribe(port: int, names: list[bytes]) -> socket.socket:
    link = socket.create_connection((HOST, port))
    for name in names:
        link.sendall(b"*2\r\n$10\r\nSSUBSCRIBE\r\n$%d\r\n%b\r\n" % (len(name), name))
        expected = b"*3\r\n$10\r\nssubscribe\r\n$%d\r\n%b\r\n:" % (len(name), name)
        reply = b""
        while not (reply.startswith(expected) and reply.endswith(b"\r\n")):
            reply += link.recv(READ)
            if len(reply) > len(expected) + 20:
                raise SystemExit(f"not subscribed: {reply!r}")
    return link


def exchange(
    subscribers: list[socket.socket], ports: list[int], names: list[list[bytes]], window: int
) -> tuple[int, int]:
    """Bytes that came, and messages that were published."""
    commands = [
        [
            b"*3\r\n$8\r\nSPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
            % (len(name), name, len(BODY), BODY)
            for name in some
        ]
        for some in names
    ]
    links = [socket.create_connection((HOST, port)) for port in ports]
    poll = select.epoll()
    node_of = {link.fileno(): node for node, link in enumerate(links)}
    subscriber_of = {link.fileno(): link for link in subscribers}
    turns = [0] * len(ports)

    def publish(node: int, count: int) -> None:
        some, turn = commands[node], turns[node]
        batch = [some[place % len(some)] for place in range(turn, turn + count)]
        turns[node] += count
        links[node].sendall(b"".join(batch))

    for node, link in enumerate(links):
        poll.register(link, select.EPOLLIN)
        if commands[node]:
            publish(node, window)
    for link in subscribers:
        poll.register(link, select.EPOLLIN)
    received = answered = 0
    buffer = bytearray(READ)
    while not stopped.is_set():
        for descriptor, _ in poll.poll(0.2):
            if descriptor in subscriber_of:
                received += subscriber_of[descriptor].recv_into(buffer)
            else:
                replies = links[node_of[descriptor]].recv(READ).count(b"\n")
                answered += replies
                publish(node_of[descriptor], replies)
    return received, answered


if __name__ == "__main__":
    main()
