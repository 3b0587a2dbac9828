"""Many WebSocket clients that only listen: python benchmarks/crowd.py PORT COUNT.

Prints "ready" when all are open, and upon SIGTERM one line of JSON: how many bytes came after the
handshakes, and to how many connections none at all.
"""

import contextlib
import json
import select
import signal
import socket
import sys
from types import FrameType

from measure import GET, HOST, UPGRADE

OPENING = 256  # at a time: far below the listener's backlog
SOURCES = 8  # source addresses: each has its own range of ports
CHUNK = 65536


class FinishError(Exception):
    """SIGTERM has come."""


def main() -> None:
    port, count = int(sys.argv[1]), int(sys.argv[2])
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    received: dict[int, int] = {}
    while len(sockets) < count:
        batch = [
            connect(port, number)
            for number in range(len(sockets), min(count, len(sockets) + OPENING))
        ]
        for each in batch:
            expect_handshake(each)
            each.setblocking(False)
            sockets[each.fileno()] = each
            received[each.fileno()] = 0
            poll.register(each.fileno(), select.EPOLLIN)
    signal.signal(signal.SIGTERM, finish)
    print("ready", flush=True)
    with contextlib.suppress(FinishError):
        listen(poll, sockets, received)
    silent = sum(not size for size in received.values())
    print(json.dumps({"bytes": sum(received.values()), "silent": silent}), flush=True)


def connect(port: int, number: int) -> socket.socket:
    one = socket.create_connection((HOST, port), 20, (f"127.0.0.{2 + number % SOURCES}", 0))
    one.sendall(GET + UPGRADE + b"\r\n")
    return one


def expect_handshake(one: socket.socket) -> None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = one.recv(1024)
        if not piece:
            raise SystemExit("a handshake was not answered")
        head += piece
    if not head.startswith(b"HTTP/1.1 101 "):
        raise SystemExit(f"a handshake was refused: {head!r}")


def listen(poll: select.epoll, sockets: dict[int, socket.socket], received: dict[int, int]) -> None:
    while True:
        for descriptor, _ in poll.poll():
            received[descriptor] += len(sockets[descriptor].recv(CHUNK))


def finish(number: int, frame: FrameType | None) -> None:
    raise FinishError


if __name__ == "__main__":
    main()
