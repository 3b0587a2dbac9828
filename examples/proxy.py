"""A TCP proxy: a client here, a connection dialled for it there, and a pipe in each direction.

    UPSTREAM=tcp://127.0.0.1:80 gworker examples/proxy.py

Try it with `curl -H 'Host: localhost' http://127.0.0.1:2006/`. Each side is read no faster than the
other takes
it: a slow reader costs a send buffer (MAX bytes), however much is on its way to it.
"""

import logging
import os

import gworker
from gworker import ClientConnection, Connection, Worker

UPSTREAM = os.environ.get("UPSTREAM", "tcp://127.0.0.1:80")
MAX = int(os.environ.get("MAX", "262144"))

proxy = Worker(
    os.environ.get("LISTEN", "tcp://127.0.0.1:2006"), name="proxy", max_send_buffer_size=MAX
)


@proxy.on_connect
def forward(client: Connection) -> None:
    """What the client sends meanwhile waits for the upstream; if that cannot be reached, the client
    is closed."""
    upstream = gworker.connect(UPSTREAM, max_send_buffer_size=MAX, on_error=tell)
    client.pipe(upstream)
    upstream.pipe(client)


def tell(upstream: ClientConnection, code: int, message: str) -> None:
    """The reason names the address."""
    logging.getLogger("proxy").warning("%s", message)
