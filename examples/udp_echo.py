"""UDP: the datagram "time" is answered with the time, any other with itself.

    gworker examples/udp_echo.py

Try it with `echo time | nc -u -w1 127.0.0.1 2002`.
"""

import os
import time

from gworker import Connection, Worker

clock = Worker(os.environ.get("LISTEN", "udp://127.0.0.1:2002"), name="clock")


@clock.on_message
def answer(sender: Connection, datagram: bytes) -> None:
    """`sender` looks like a connection: what it sends goes back to where the datagram came from."""
    sender.send(time.ctime() if datagram.strip() == b"time" else datagram)
