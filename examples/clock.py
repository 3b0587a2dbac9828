"""A clock that is pushed to the page by Server-Sent Events.

    gworker examples/clock.py

Then open http://127.0.0.1:8000, or `curl -N http://127.0.0.1:8000/time`.
"""

import itertools
import os
import time
from collections.abc import Iterator

from gworker import Connection, Request, Response, Worker
from gworker.http import Event

PERIOD = float(os.environ.get("PERIOD", "1"))

web = Worker(os.environ.get("LISTEN", "http://127.0.0.1:8000"), name="clock")

PAGE = """<!doctype html><title>Clock</title><h1 id=clock>...</h1>
<script>new EventSource("/time").onmessage = event => clock.textContent = event.data</script>
"""


def ticks(last: int) -> Iterator[Event]:
    """An event in each period, for as long as the page is open. A browser that connects again goes
    on counting."""
    for number in itertools.count(last + 1):
        yield Event(time.strftime("%H:%M:%S"), id=number)
        time.sleep(PERIOD)


@web.on_message
def answer(connection: Connection, request: Request) -> None:
    if request.path == "/time":
        last = request.headers.get("Last-Event-ID", "0")
        connection.send(Response.events(ticks(int(last) if last.isdecimal() else 0), keep_alive=15))
    else:
        connection.send(PAGE)
