"""Clients that read nothing cost the memory that the limits allow, whatever is sent to them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import places
import pytest
from instance import wait_for
from serving import Client, Served, clients, serve, wait_stall

MB = 1 << 20
APP = places.app("overflowing")

ALLOWED = 4 * MB
"""The send buffers in the app hold 256 KiB. The rest is for what the allocator keeps."""

UPGRADE = (
    "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, APP, "--access-log", "/dev/null") as one:
        yield one


def refused(app: Served, name: str) -> bool:
    return bool(app.row(name)["send_failures"] > 0)


@pytest.mark.parametrize(
    ("name", "handshake", "message"),
    [("text", "", b"go\n"), ("broadcast", "", b"go\n"), ("ws", UPGRADE, b"\x81\x82\0\0\0\0go")],
    ids=["empty lines", "broadcasts", "empty messages"],
)
def test_empty_messages_to_a_client_that_reads_nothing(
    app: Served, name: str, handshake: str, message: bytes
) -> None:
    process = app.server(name)
    with Client(app, name, receive_buffer=4096) as client:
        if handshake:
            client.send(handshake)
            client.until(b"\r\n\r\n")
        before = process.memory_info().rss
        client.send(message)
        wait_for(lambda: refused(app, name), "a full send buffer")
        assert process.memory_info().rss - before < ALLOWED


def test_empty_messages_before_a_connection_is_open(app: Served) -> None:
    process = app.server("dial")
    with Client(app, "dial") as client, socket.create_server(("127.0.0.1", 0)) as silent:
        before = process.memory_info().rss
        client.send(f"ws://127.0.0.1:{silent.getsockname()[1]}\n")
        assert client.line() == "refused"
        assert process.memory_info().rss - before < ALLOWED


def test_small_answers_to_large_requests_that_are_recorded(app: Served) -> None:
    """The access log keeps the head of a request until its answer is sent."""
    process = app.server("http")
    request = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 8_000 + b"\r\n\r\n"
    sent = [0]
    with Client(app, "http", receive_buffer=4096) as client:
        before = process.memory_info().rss
        client.send("GET /fill HTTP/1.1\r\nHost: a\r\n\r\n")

        def send() -> None:
            client.socket.settimeout(None)
            with suppress(OSError):  # it is closed under it
                for _ in range(4_000):
                    client.socket.sendall(request)
                    sent[0] += len(request)

        threading.Thread(target=send, daemon=True).start()
        wait_stall(sent)
        assert process.memory_info().rss - before < ALLOWED
        client.socket.shutdown(socket.SHUT_RDWR)


def test_they_all_are_answered_when_the_client_reads_on(app: Served) -> None:
    with Client(app, "http", receive_buffer=4096) as client:
        client.send(
            b"".join(
                b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path for path in [b"/fill", *[b"/"] * 50]
            )
        )
        client.finish()
        assert client.rest().count(b"HTTP/1.1 200 OK\r\n") == 51


@pytest.mark.parametrize("path", ["bytes", "return", "response"])
def test_an_answer_that_is_the_same_for_all_is_kept_once(app: Served, path: str) -> None:
    """20 clients that do not read 8 MB."""
    process = app.server("constant")
    with clients(app, "constant", 20) as readers:
        readers[0].http(f"GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n")
        before = process.memory_full_info().uss
        for each in readers:
            each.send(f"GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n")
        for each in readers:
            each.until(b"\r\n\r\n")
        assert process.memory_full_info().uss - before < 2 * MB
        assert readers[-1].exactly(8 * MB) == bytes(range(256)) * 32_768
