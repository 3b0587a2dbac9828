"""Lines over TLS: the host that a client asks for, and its own certificate if it shows one.

    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \\
        -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \\
        -keyout site.key -out site.pem
    gworker examples/tls_echo.py

Try it with
`openssl s_client -connect 127.0.0.1:7443 -servername localhost -CAfile site.pem -quiet`.

Put a new certificate in place of the old one and run `gworker reload`: connections stay as they
are.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gworker import Worker

if TYPE_CHECKING:
    from gworker.connection.connection import Connection

echo = Worker(
    os.environ.get("LISTEN", "text://127.0.0.1:7443"),
    transport="ssl",
    name="echo",
    tls={
        "certfile": os.environ.get("CERT", "site.pem"),
        "keyfile": os.environ.get("KEY", "site.key"),
    },
)


@echo.on_connect
def greet(connection: Connection) -> None:
    """After the handshake."""
    tls = connection.tls
    assert tls is not None
    connection.send(
        f"{tls.version}, {tls.cipher}, you have asked for {tls.server_name or 'nobody'}"
    )


@echo.on_message
def answer(connection: Connection, line: str) -> None:
    """Say it again."""
    connection.send(line)
