"""Section tls: what an idle TLS connection and a handshake cost one process. The clients are
sockets of the runner."""

import contextlib
import socket
import ssl
import time
from pathlib import Path

import trustme
from cost import Settings
from life import SETTLE_SECONDS, only_worker
from measure import BOOT_SECONDS, HOST, Server, cpu_seconds, wait_until
from report import Row
from subjects import gworker

CONNECTIONS = 2000
WARM = 50
"""Connections that are made before anything is measured: what they cause to be loaded is no
one's."""


class TlsServer(Server):
    """A server that is ready when it shakes hands."""

    context: ssl.SSLContext

    def dial(self) -> ssl.SSLSocket:
        plain = socket.create_connection((HOST, self.port), 5)
        connection = self.context.wrap_socket(plain, server_hostname="localhost")
        connection.sendall(b"ping")
        connection.recv(4)  # with it come the session tickets
        return connection

    def answers(self) -> bool:
        try:
            self.dial().close()
        except OSError:
            return False
        return True

    def wait_ready(self) -> None:
        wait_until(self.answers, BOOT_SECONDS, "a handshake")


def serve(directory: Path) -> TlsServer:
    """An echo over TLS with an ECDSA certificate."""
    plain = gworker("tcp", service="secure").serve(directory)
    authority = trustme.CA()
    certificate = plain.directory / "cert.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    environment = plain.environment | {"BENCH_CERT": str(certificate)}
    server = TlsServer(
        "gworker tls", "tcp", plain.port, plain.command, plain.directory, environment
    )
    server.context = ssl.create_default_context()
    authority.configure_trust(server.context)
    return server


def tls(settings: Settings) -> list[Row]:
    """Memory of one process per idle TLS connection, and its processor time per full handshake."""
    count = min(settings.idle, CONNECTIONS)
    with serve(settings.directory) as server, contextlib.ExitStack() as held:
        worker = only_worker(server)
        for _ in range(WARM):
            held.enter_context(server.dial())
        time.sleep(SETTLE_SECONDS)
        empty, before = worker.memory_info().rss, cpu_seconds([worker])
        for _ in range(count):
            held.enter_context(server.dial())
        seconds = cpu_seconds([worker]) - before
        time.sleep(SETTLE_SECONDS)
        full = worker.memory_info().rss
    return [
        Row(
            "tls",
            f"gworker tls, per idle connection ({count})",
            (full - empty) / count,
            "bytes",
            25_000,
        ),
        Row("tls", "gworker tls, CPU per handshake (P-256)", seconds / count * 1e6, "µs"),
    ]
