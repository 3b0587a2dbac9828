"""The clients of the section slow: one epoll each, many sockets. Prints JSON.

    slow_client.py ask PORT COUNT SECONDS     COUNT clients ask 20 times a second each; milliseconds
                                              of every answer
    slow_client.py drip PORT COUNT SECONDS    COUNT heads come a byte every one to two seconds; when
                                              each was cut
    slow_client.py sip PORT COUNT SECONDS     COUNT clients ask for much and take a byte a second;
                                              when each was cut

`drip` and `sip` say `ready` when all connections are open. A connection that was not cut counts as
SECONDS.
"""

import contextlib
import heapq
import json
import random
import select
import socket
import sys
import time

HOST = "127.0.0.1"
ASK = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
MUCH = b"GET /much HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HEAD = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
PERIOD = 0.05
"""Seconds between two requests of one client."""


def connect(port: int, buffer: int = 0) -> socket.socket:
    made = socket.socket()
    if buffer:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    made.connect((HOST, port))
    made.setblocking(False)
    return made


def ask(port: int, count: int, seconds: float) -> list[float]:
    poll, clients, asked = select.epoll(), {}, {}
    for _ in range(count):
        client = connect(port)
        clients[client.fileno()] = client
        poll.register(client, select.EPOLLIN)
    began = time.perf_counter()
    due = [(began + PERIOD * index / count, number) for index, number in enumerate(clients)]
    heapq.heapify(due)
    taken = []
    while (now := time.perf_counter()) < began + seconds:
        while due and due[0][0] <= now:
            _, number = heapq.heappop(due)
            asked[number] = now
            clients[number].send(ASK)
        for number, _ in poll.poll(max(0.0, min(due[0][0] - now, 0.1)) if due else 0.1):
            if not clients[number].recv(65536):
                raise SystemExit("a client that asks properly was cut")
            now = time.perf_counter()
            taken.append((now - asked[number]) * 1000)
            heapq.heappush(due, (max(now, asked[number] + PERIOD), number))
    return taken


def be_slow(port: int, count: int, seconds: float, sips: bool) -> list[float]:
    poll, clients, begun, cut = select.epoll(), {}, {}, []
    due: list[tuple[float, int]] = []
    for _ in range(count):
        client = connect(port, 4096 if sips else 0)
        client.send(MUCH if sips else HEAD)
        number = client.fileno()
        clients[number], begun[number] = client, time.monotonic()
        poll.register(client, select.EPOLLRDHUP if sips else select.EPOLLIN | select.EPOLLRDHUP)
        heapq.heappush(due, (time.monotonic() + random.uniform(1, 2), number))
    print("ready", flush=True)
    end = time.monotonic() + seconds
    while clients and (now := time.monotonic()) < end:
        while due and due[0][0] <= now:
            _, number = heapq.heappop(due)
            if number not in clients:
                continue
            with contextlib.suppress(OSError):
                clients[number].recv(1) if sips else clients[number].send(b"x")
            heapq.heappush(due, (now + (1.0 if sips else random.uniform(1, 2)), number))
        for number, _ in poll.poll(0.02):
            cut.append(time.monotonic() - begun.pop(number))
            clients.pop(number).close()
    return cut + [seconds] * len(clients)


def main() -> None:
    what, port, count, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    figures = (
        ask(port, count, seconds) if what == "ask" else be_slow(port, count, seconds, what == "sip")
    )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
