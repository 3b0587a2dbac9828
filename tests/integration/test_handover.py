"""Connections that outlive their process: every protocol, every state, and what cannot travel."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator

import places
import pytest
from instance import wait_for
from serving import Client, Served, serve

APP = places.app("moving")

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, APP) as one:
        yield one


def replace(app: Served, name: str) -> tuple[int, int]:
    """Let the process of a Worker replace itself; return its pid and that of its successor."""
    (old,) = _ready(app, name)
    with Talk(app, name) as other:
        assert other.ask("go") == "going"
    (new,) = wait_for(
        lambda: (found := _ready(app, name)) not in ([old], []) and found, "a successor"
    )
    return old, new


def move(app: Served, name: str) -> int:
    """The same, and wait until all connections have moved; return the pid of the process that has
    them."""
    old, new = replace(app, name)
    wait_for(
        lambda: not any(r["connections"] for r in app.workers(name) if r["pid"] == old),
        "all have moved",
    )
    return new


def _ready(app: Served, name: str) -> list[int]:
    return [row["pid"] for row in app.workers(name) if row["state"] == "ready"]


KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Talk(Client):
    """A client that speaks one of the protocols: whole messages, and messages in two halves."""

    def __init__(self, app: Served, name: str, receive_buffer: int = 0) -> None:
        self.name = name
        if name == "unix":
            self.served, self.buffer = app, bytearray()
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(60)
            self.socket.connect(str(app.directory / "path.sock"))
        else:
            super().__init__(app, name, receive_buffer)
        if name in ("ws", "stays"):
            self.send(
                f"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            assert b" 101 " in self.until(b"\r\n\r\n")

    def encoded(self, message: str) -> bytes:
        data = message.encode()
        match self.name:
            case "frame":
                return struct.pack(">I", len(data) + 4) + data
            case "netstring":
                return b"%d:%s," % (len(data), data)
            case "ws" | "stays":
                mask = b"\1\2\3\4"
                return (
                    bytes([0x81, 0x80 | len(data)])
                    + mask
                    + bytes(b ^ mask[i & 3] for i, b in enumerate(data))
                )
            case "http":
                return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (
                    len(data),
                    data,
                )
            case "tcp":
                return data
            case _:
                return data + b"\n"

    def hear(self) -> str:
        """The next message."""
        match self.name:
            case "frame":
                return self.exactly(struct.unpack(">I", self.exactly(4))[0] - 4).decode()
            case "netstring":
                return self.exactly(int(self.until(b":")[:-1]) + 1)[:-1].decode()
            case "ws" | "stays":
                first, length = self.exactly(2)
                if length == 126:
                    length = struct.unpack(">H", self.exactly(2))[0]
                payload = self.exactly(length)
                return (
                    f"close {struct.unpack('>H', payload[:2])[0]}"
                    if first == 0x88
                    else payload.decode()
                )
            case "http":
                return self.answer()[2].decode()
            case "tcp":
                assert self.buffer or self._more()
                return self._take(len(self.buffer)).decode()
            case _:
                return self.line()

    def ask(self, message: str) -> str:
        self.send(self.encoded(message))
        return self.hear()


MOVING = ("text", "tcp", "frame", "netstring", "unix", "ws", "http")


@pytest.mark.parametrize("name", MOVING)
def test_every_protocol_moves_with_half_a_message(app: Served, name: str) -> None:
    with Talk(app, name) as client, Talk(app, name) as quiet:
        assert client.ask("remember me") == "ok"
        before = client.ask("who").split()
        pid = client.ask("pid")
        rest = client.encoded("pid")
        if name != "tcp":
            half, rest = rest[: len(rest) // 2], rest[len(rest) // 2 :]
            client.send(half)
            wait_for(
                lambda: _read(app, name) == int(before[2]) + len(client.encoded("pid")) + len(half),
                "half read",
            )
        move(app, name)
        client.send(rest)
        assert client.hear() != pid
        after = client.ask("who").split()
        assert after[:2] == before[:2], "id and peer are the same"
        assert int(after[2]) > int(before[2]), "the counters go on"
        assert after[4:] == ["me", "moved"], "the context has travelled, and on_takeover came first"
        assert quiet.ask("who").split()[4:] == ["moved"], "who has never said anything moves too"
        port = client.socket.getsockname()[1] if name != "unix" else None
    if port is not None:
        story = [
            event.split()[0] for event in app.wait_event(port, f"close {app.row(name)['pid']}")
        ]
        assert story == ["connect", "takeover", "close"], "only the successor was told of a close"


def _read(app: Served, name: str) -> int:
    """Bytes that the connections of a Worker have read, those that have moved with theirs."""
    return max(row["bytes_read"] for row in _connections_of(app, name))


def _connections_of(app: Served, name: str) -> list[dict[str, int]]:
    found = json.loads(app.run("connections", "--json").stdout)
    return [row for row in found if row["worker"] == name]


def test_a_busy_connection_follows_when_its_handler_ends_and_keeps_the_order(app: Served) -> None:
    with Talk(app, "text") as client:
        pid = client.ask("pid")
        client.send("sleep 1.5\none\npid\n")
        replace(app, "text")
        with Talk(app, "text") as other:
            assert other.ask("pid") != pid
        client.send("two\npid\n")
        assert [client.hear() for _ in range(5)][:4] == ["slept", "one", pid, "two"]
        assert client.ask("pid") != pid


def test_unsent_bytes_and_the_drained_callback_move(app: Served) -> None:
    with Talk(app, "text", receive_buffer=4096) as client:
        client.send(f"flood {12_000_000}\n")
        wait_for(
            lambda: any(row["send_queue"] for row in _connections_of(app, "text")), "unsent bytes"
        )
        pid = move(app, "text")
        assert len(client.line()) == 12_000_000
        client.wait_event(f"drained {pid}")
        assert client.ask("still here") == "still here"


def test_what_is_set_on_a_connection_moves(app: Served) -> None:
    with Talk(app, "text") as client:
        assert client.ask("set") == "ok"
        move(app, "text")
        assert client.ask("get") == "12345 23456"


def test_a_paused_connection_is_paused_in_the_successor(app: Served) -> None:
    with Talk(app, "text") as client:
        assert client.ask("pause") == "ok"
        client.send("pid\n")
        pid = move(app, "text")
        client.wait_event(f"paused {pid}")
        assert client.hear() == str(pid), "resumed there"


def test_the_idle_time_moves(app: Served) -> None:
    with Talk(app, "silent") as client:
        assert client.ask("hello") == "hello"
        time.sleep(2.5)
        move(app, "silent")
        moved = time.monotonic()
        assert client.rest() == b""
        assert time.monotonic() - moved < 3.4, (
            "the successor did not begin to count anew, up to 4 s"
        )


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("keep lock", "a context that cannot be pickled: TypeError"),
        ("keep lambda", "a context that cannot be pickled"),
        ("own", "1 connection cannot move: own callbacks"),
    ],
)
def test_what_cannot_be_copied_is_closed_politely(app: Served, what: str, why: str) -> None:
    with Talk(app, "ws") as client, Talk(app, "ws") as other:
        assert client.ask(what) in ("kept", "ok")
        _, new = replace(app, "ws")
        assert client.hear() == "close 1012"
        wait_for(lambda: other.ask("pid") == str(new), "the other one has moved")
    app.wait_log(why)


def test_scaling_down_moves_connections_to_the_siblings(app: Served) -> None:
    with Talk(app, "pair") as one:
        pids = {row["pid"] for row in app.workers("pair")}
        others = [Talk(app, "pair") for _ in range(8)]
        homes = [other.ask("pid") for other in others]
        assert app.run("scale", "pair", "1").returncode == 0
        (left,) = wait_for(
            lambda: (rows := app.workers("pair"), len(rows) == 1 and [rows[0]["pid"]])[1],
            "one process is left",
        )
        assert left in pids
        assert {other.ask("pid") for other in [one, *others]} == {str(left)}
        assert len(others) == len(homes)
        assert app.run("scale", "pair", "2").returncode == 0
        for other in others:
            other.socket.close()


def test_a_reload_tells_what_it_moved_and_closed(app: Served) -> None:
    names = ["text", "http", "ws", "netstring"]
    with Talk(app, "stays") as sent_away, Talk(app, "straight") as ended:
        clients = [Talk(app, name) for name in names]
        assert [client.ask("remember me") for client in clients] == ["ok"] * 4
        assert ended.ask("hello") == "hello"
        assert app.reload()["exit"] == 0
        assert [client.ask("pid") for client in clients] == [
            str(app.row(name)["pid"]) for name in names
        ]
        assert sent_away.hear() == "close 1012"
        assert ended.rest() == b""
        wait_for(lambda: app.status()["last_reload"]["closed"] == 2, "two closed")
        assert app.status()["last_reload"]["handed_over"] == 4
        assert "4 connections were handed over" in app.read_log()
        for client in clients:
            client.socket.close()


def test_a_successor_that_dies_at_once_costs_no_connection_that_has_not_moved(app: Served) -> None:
    """The busy one stays with the process that retires until there is a process that it can move
    to."""
    with Talk(app, "text") as client:
        client.send("sleep 2\n")
        _, successor = replace(app, "text")
        os.kill(successor, 9)
        (third,) = wait_for(
            lambda: (found := _ready(app, "text")) not in ([successor], []) and found, "a third"
        )
        assert client.hear() == "slept"
        wait_for(lambda: client.ask("pid") == str(third), "it follows to the third")


def test_order_and_completeness_under_load(app: Served) -> None:
    """Numbered lines in both directions, in pieces that cut them anywhere, while everything
    moves."""
    stop = threading.Event()
    faults: list[str] = []
    counts: list[int] = []

    def talk(name: str, step: int) -> None:
        try:
            with Talk(app, name) as client:
                number = 0
                while not stop.is_set():
                    batch = [f"{number + i} {'x' * (i * step % 300)}" for i in range(20)]
                    data = b"".join(client.encoded(each) for each in batch)
                    for start in range(0, len(data), 97 * step):
                        client.send(data[start : start + 97 * step])
                    for each in batch:
                        if (heard := client.hear()) != each:
                            faults.append(f"{name}: {heard[:40]!r} instead of {each[:40]!r}")
                            return
                    number += 20
                    time.sleep(0.05)  # leave some of the machine to the server
                counts.append(number)
        except (AssertionError, OSError) as error:
            faults.append(f"{name}: {error!r}")

    names = ("text", "frame", "netstring", "http", "unix")
    threads = [
        threading.Thread(target=talk, args=(name, step))
        for name, step in zip(names, (1, 7, 2, 1, 5), strict=True)
    ]
    for thread in threads:
        thread.start()
    replies = [app.reload() for _ in range(2)]
    stop.set()
    for thread in threads:
        thread.join(60)
    assert not faults
    assert len(counts) == 5
    assert min(counts) > 0
    assert [reply["exit"] for reply in replies] == [0, 0]


def test_another_protocol_at_the_same_address_takes_no_connection_over(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    source = """
        port = {port}
        worker = Worker(f"{scheme}://127.0.0.1:{{port}}", name="text", handover=True)
        worker.on_message = lambda connection, data: connection.send(data)
    """
    with serve(tmp_path_factory, source.format(scheme="text", port=0)) as app:
        with Client(app, "text") as client:
            client.send("hello\n")
            assert client.line() == "hello"
            (path,) = [app.directory / "app.py"]
            path.write_text(path.read_text().replace("text://", "frame://"))
            os.utime(path, (time.time(), time.time() - 50))
            assert app.reload()["exit"] == 0
            assert client.rest() == b"", "closed politely: its successor would not understand it"
        assert app.status()["last_reload"]["handed_over"] == 0
