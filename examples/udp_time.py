"""A time server over UDP: SNTP, as ntpdate and chrony ask for it (RFC 4330).

    gworker examples/udp_time.py

Try it with `ntpdate -q -p1 127.0.0.1` on port 123 (LISTEN=udp://0.0.0.0:123, as root), or as the
test does.
"""

import os
import struct
import time

from gworker import Connection, Worker

clock = Worker(os.environ.get("LISTEN", "udp://127.0.0.1:2008"), name="clock")

EPOCH = 2208988800  # seconds from 1900, where NTP begins, to 1970
CLIENT, SERVER = 3, 4


def timestamp() -> bytes:
    """Now: 32 bits of seconds since 1900, 32 bits of their fraction."""
    return int((time.time() + EPOCH) * 2**32).to_bytes(9)[-8:]


@clock.on_message
def answer(sender: Connection, request: bytes) -> None:
    """A request has 48 bytes or more; what is none gets no answer, so that no host is flooded in
    another's name."""
    received = timestamp()
    if len(request) < 48 or request[0] & 7 != CLIENT:
        return
    version = request[0] & 0b00111000
    head = struct.pack(">BBbbII4s", version | SERVER, 10, request[2], -20, 0, 0, b"LOCL")
    sender.send(head + received + request[40:48] + received + timestamp())
