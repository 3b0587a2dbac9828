"""What the kernel holds for peers that read nothing: it is bounded, shown, and under a deadline."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import places
import psutil
import pytest
from instance import wait_for
from serving import Client, Served, serve

APP = places.app("unread")
MB = 1 << 20


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, APP) as one:
        yield one


def rows(app: Served, name: str) -> list[dict[str, Any]]:
    """What `gworker connections` lists of one Worker."""
    listed: list[dict[str, Any]] = json.loads(
        app.run("connections", "--json", "--worker", name).stdout
    )
    return listed


def kernel_buffer(app: Served, name: str, port: int) -> int:
    """SO_SNDBUF of the server's socket to the client at `port`, read from a copy of the socket
    (pidfd_getfd(2))."""
    process = app.server(name)
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        if not os.readlink(descriptor).startswith("socket:"):
            continue
        copy = _copy_of(process.pid, int(descriptor.name))
        with socket.socket(fileno=copy) as one:
            try:
                if one.getpeername()[1] == port:
                    return one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            except (OSError, IndexError):
                continue
    raise AssertionError(f"no socket to {port}")


def _copy_of(pid: int, descriptor: int) -> int:
    pidfd = os.pidfd_open(pid)
    try:
        copy = ctypes.CDLL(None, use_errno=True).syscall(438, pidfd, descriptor, 0)
        if copy < 0:
            pytest.skip(f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
        return int(copy)
    finally:
        os.close(pidfd)


@pytest.mark.parametrize(("name", "size"), [("default", 256 << 10), ("large", 1 << 20)])
def test_the_size_that_was_asked_for(app: Served, name: str, size: int) -> None:
    most = int(Path("/proc/sys/net/core/wmem_max").read_text())
    with Client(app, name) as client:
        client.send("1000\n")
        client.line()
        assert kernel_buffer(app, name, client.port) == 2 * min(size, most)


def test_what_is_held_for_a_peer_that_reads_nothing(app: Served) -> None:
    """By default little; with 0 as much as the kernel likes."""
    held = {}
    for name in ("default", "free"):
        with Client(app, name, receive_buffer=4096) as client:
            client.send(f"{6 * MB}\n")
            wait_for(lambda name=name: app.row(name)["send_failures"] > 0, "a full buffer")  # type: ignore[misc]
            (row,) = rows(app, name)
            held[name] = row["bytes_written"]
    assert held["default"] < 0.7 * MB
    assert held["default"] < held["free"] / 2


def test_a_unix_socket_is_bounded_too(app: Served) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(app.directory / "unread.sock"))
        client.sendall(f"{2 * MB}\n".encode())
        wait_for(lambda: app.row("unix")["send_failures"] > 0, "a full buffer")
        assert rows(app, "unix")[0]["bytes_written"] < 100_000  # 32 KiB, doubled, and one message


def test_what_waits_in_the_kernel_is_shown(app: Served) -> None:
    with Client(app, "default", receive_buffer=4096) as client:
        client.send("100000\n")
        (row,) = wait_for(
            lambda: [row for row in rows(app, "default") if row["bytes_written"] == 100_000],
            "the data",
        )
        assert 50_000 < row["send_queue"] < 100_000  # the client's kernel has taken the rest
        wait_for(lambda: 50_000 < app.row("default")["send_queue"] < 100_000, "the sum in status")
        assert app.status()["totals"]["send_queue"] > 50_000
        assert len(client.exactly(100_000)) == 100_000
        wait_for(lambda: rows(app, "default")[0]["send_queue"] == 0, "all is acknowledged")


def test_who_takes_nothing_is_cut_though_all_is_in_the_kernel(app: Served) -> None:
    with (
        Client(app, "text", receive_buffer=4096) as idle,
        Client(app, "text", receive_buffer=4096) as stuck,
    ):
        idle.send("1000\n")
        assert len(idle.exactly(1000)) == 1000
        began = time.monotonic()
        stuck.send("100000\n")
        wait_for(lambda: app.row("text")["connections"] == 1, "the end of the one that is stuck")
        assert time.monotonic() - began > 1
        assert stuck.is_cut()
        idle.send("1000\n")  # it has nothing to take: no time passes for it
        assert len(idle.exactly(1000)) == 1000
    assert "it takes too little of what waits for it" in app.read_log()


def test_a_handler_that_owns_its_socket_is_cut_off_too(app: Served) -> None:
    with Client(app, "owned", receive_buffer=4096) as client:
        wait_for(
            lambda: [row for row in rows(app, "owned") if row["send_queue"] > 50_000], "the data"
        )
        wait_for(lambda: app.row("owned")["connections"] == 0, "the end")
        assert client.is_cut()
    assert app.row("owned")["exceptions"] == 0, app.read_log()


def test_who_reads_slowly_is_not_cut(app: Served) -> None:
    with Client(app, "text", receive_buffer=4096) as client:
        client.send("100000\n")
        for _ in range(20):
            time.sleep(0.15)
            client.exactly(5000)
        assert app.row("text")["connections"] == 1


def test_who_reads_slowly_gets_what_was_sent_before_a_goodbye(app: Served) -> None:
    """`close_timeout` is for the goodbye of the peer. What is in the kernel by then is not taken
    back."""
    with Client(app, "goodbye", receive_buffer=4096) as client:
        client.send(
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        client.until(b"\r\n\r\n")
        client.send(b"\x81\x80\0\0\0\0")
        wait_for(lambda: app.row("goodbye")["connections"] == 0, "the end of the wait")
        for _ in range(10):
            time.sleep(0.1)
            client.exactly(5_000)
        assert client.rest() == b"x" * 150_010 + b"\x88\x02\x03\xe8"


def test_what_a_closed_connection_leaves_in_the_kernel_is_dropped(app: Served) -> None:
    """Else it would be there for minutes, whatever becomes of the client."""
    process = psutil.Process()
    with Client(app, "web", receive_buffer=4096) as client:
        client.send("GET /?size=100000 HTTP/1.1\r\nHost: a\r\n\r\n")
        port = app.port("web")

        def server_side() -> list[str]:
            tcp = psutil.net_connections("tcp4")
            return [
                each.status for each in tcp if each.laddr and each.raddr and each.laddr.port == port
            ]

        wait_for(lambda: server_side() == ["FIN_WAIT1"], "closed, with data that is never taken")
        wait_for(lambda: server_side() == [], "dropped", 30)
        assert client.is_cut()
    assert process.is_running()
