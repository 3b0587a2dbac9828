"""The section file: what a large file to a slow reader costs its process."""

import os
import socket
import time

from cost import Settings
from life import MB, only_worker
from measure import HOST, Server
from report import Row
from subjects import HOLES, gworker

SIZE = 1 << 30
PIECE = 1 << 20
PAUSE, EVERY = 0.05, 1 << 24
"""Seconds that the reader sleeps after so many bytes."""

STALL = 2.0
"""Seconds for which it reads nothing at all, at the beginning."""

REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"


def file(settings: Settings) -> list[Row]:
    """A file of 1 GiB with holes, so that the disk is not what is measured."""
    with open(settings.directory / HOLES, "wb") as made:
        os.truncate(made.fileno(), SIZE)
    with gworker().serve("sender", settings.directory) as server:
        worker = only_worker(server)
        before = worker.memory_info().rss
        received, peak = read_slowly(server)
    what = "1 GiB to a reader that stalls and pauses"
    return [
        Row("file", f"{what}: growth of RSS", (peak - before) / MB, "MB", 16),
        Row("file", f"{what}: bytes that did not arrive", SIZE - received, "", 0),
    ]


def read_slowly(server: Server) -> tuple[int, int]:
    """The bytes of the content, and the largest RSS seen."""
    worker, buffer = only_worker(server), bytearray(PIECE)
    peak = received = 0
    with socket.create_connection((HOST, server.port), timeout=60) as client:
        client.sendall(REQUEST)
        time.sleep(STALL)
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(65536)
        received = len(head) - head.index(b"\r\n\r\n") - 4
        pause = 0
        while size := client.recv_into(buffer):
            received += size
            if received >= pause:
                pause = received + EVERY
                peak = max(peak, worker.memory_info().rss)
                time.sleep(PAUSE)
    return received, peak
