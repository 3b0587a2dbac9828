"""UDP and unix sockets, to the letter: addresses, sizes, files, credentials."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import time
from collections.abc import Iterator

import places
import pytest
from instance import DEADLINE
from serving import Served, serve

APP = places.app("sockets")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, APP) as one:
        yield one


@contextlib.contextmanager
def udp(app: Served, name: str, host: str = "127.0.0.1", own: str = "") -> Iterator[socket.socket]:
    """A socket that hears only answers from where it sends to, as most clients do."""
    with socket.socket(
        socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM
    ) as made:
        made.settimeout(DEADLINE)
        made.bind((own or host, 0))
        made.connect((host, app.port(name)))
        yield made


def ask(sock: socket.socket, data: bytes) -> bytes:
    sock.send(data)
    return sock.recv(70000)


# ---- UDP


@pytest.mark.parametrize(
    ("name", "host", "own"),
    [
        ("everywhere", "127.0.0.1", "127.0.0.1"),
        ("everywhere", "127.7.7.7", "127.0.0.1"),
        ("both", "::1", "::1"),
    ],
)
def test_an_answer_leaves_from_where_it_was_asked(
    app: Served, name: str, host: str, own: str
) -> None:
    with udp(app, name, host, own) as sock:
        assert ask(sock, b"who").decode() == f"{own} {host} {app.port(name)}"


def test_an_answer_over_ipv4_from_a_socket_for_both(app: Served) -> None:
    with udp(app, "both", "127.7.7.7", "127.0.0.1") as sock:
        assert ask(sock, b"who").decode() == f"127.0.0.1 127.7.7.7 {app.port('both')}"


def test_a_socketserver_class_too(app: Served) -> None:
    with udp(app, "legacy", "127.7.7.7", "127.0.0.1") as sock:
        assert ask(sock, b"x") == b"legacy x"


@pytest.mark.parametrize(
    ("name", "host"), [("everywhere", "127.0.0.1"), ("both", "::1"), ("many", "127.0.0.1")]
)
@pytest.mark.parametrize("size", [0, 1, 65507])
def test_datagrams_of_every_size_both_ways(app: Served, name: str, host: str, size: int) -> None:
    with udp(app, name, host) as sock:
        data = os.urandom(size)
        assert ask(sock, data) == data


def test_a_datagram_that_is_kept_is_a_way_back(app: Served) -> None:
    with udp(app, "everywhere", "127.7.7.7", "127.0.0.1") as one, udp(app, "everywhere") as other:
        one.send(b"later")
        one.send(b"a")
        assert one.recv(10) == b"a"
        assert ask(other, b"now") == b"1"
        assert one.recv(10) == b"kept"


def test_packages_in_datagrams(app: Served) -> None:
    with udp(app, "pairs") as sock:
        sock.send(b"abcde")  # the rest is no package, and belongs to no other datagram
        sock.send(b"fg")
        assert [sock.recv(10) for _ in range(3)] == [b"<ab>", b"<cd>", b"<fg>"]
    app.wait_log("it ends within a message of the Pairs protocol")


def test_a_flood_does_not_starve_others(app: Served) -> None:
    with udp(app, "everywhere") as flood, udp(app, "everywhere", "127.7.7.7", "127.0.0.1") as sock:
        sock.send(b"count")
        sock.setblocking(False)
        end = time.monotonic() + DEADLINE
        answer = None
        while answer is None:
            assert time.monotonic() < end
            flood.send(b"flood")
            with contextlib.suppress(BlockingIOError):
                answer = sock.recv(100)
    assert float(answer) < 10


def test_what_waits_in_each_socket_outlives_a_reload(app: Served) -> None:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(udp(app, "many")) for _ in range(16)]
        before = {ask(sock, b"pid") for sock in sockets}
        assert {each.split()[1] for each in before} == {b"0", b"1"}
        for sock in sockets:
            sock.send(b"slow")
        assert app.reload()["exit"] == 0
        for sock in sockets:
            assert sock.recv(100) == b"slow"
        assert before.isdisjoint({ask(sock, b"pid") for sock in sockets})


# ---- unix sockets


def mode_of(app: Served, name: str = "private.sock") -> int:
    return stat.S_IMODE(os.stat(app.directory / name).st_mode)


def test_the_peer_has_credentials_before_and_after_a_move_and_the_mode_changes(app: Served) -> None:
    mine = repr((os.getpid(), os.getuid(), os.getgid())).encode()
    assert mode_of(app) == 0o600
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE)
        client.connect(str(app.directory / "private.sock"))
        assert ask(client, b"x") == mine
        before = os.stat(app.directory / "private.sock").st_ino
        written = (app.directory / "app.py").read_text()
        app.write("")
        (app.directory / "app.py").write_text(
            written.replace("unix_mode=0o600", 'unix_mode="0640"')
        )
        assert app.reload()["exit"] == 0
        assert ask(client, b"x") == mine
    assert mode_of(app) == 0o640
    assert os.stat(app.directory / "private.sock").st_ino == before


def test_a_name_that_is_no_file(app: Served) -> None:
    name = app.listen["abstract"].partition("://")[2]
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE)
        client.connect("\0" + name[1:])
        assert ask(client, b"x").decode() == f"unix {name}"
    assert not [each for each in os.listdir(app.directory) if each.startswith("@")]
