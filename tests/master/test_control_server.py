"""ControlServer in a selector loop, driven turn by turn, against real clients on real sockets."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gworker.errors import ConfigError
from gworker.master import control_connection, control_server
from gworker.master.control_connection import Call
from gworker.master.control_server import ControlServer
from gworker.system.peer_address import Credentials


class Loop:
    """The arbiter's loop as far as the control socket is concerned."""

    def __init__(self, path: str) -> None:
        self.selector = selectors.DefaultSelector()
        self.calls: list[Call] = []
        self.on_call: Callable[[Call], None] = lambda call: None
        self.server = ControlServer(path, self.selector, self.handle)
        self.peers: list[Peer] = []
        self.strangers = _sockets()
        self.server.open()

    def end(self) -> None:
        for peer in self.peers:
            peer.close()
        self.server.close()
        self.selector.close()

    def handle(self, call: Call) -> None:
        self.calls.append(call)
        self.on_call(call)

    def turn(self, timeout: float = 0) -> int:
        ready = self.selector.select(timeout)
        for key, mask in ready:
            key.data(mask)
        return len(ready)

    def until(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < deadline
            self.turn(0.05)

    def settle(self) -> None:
        """Turn until nothing is left to do; a loop that spins fails."""
        for _ in range(1000):
            if not self.turn():
                return
        raise AssertionError("the loop spins")

    @property
    def clients(self) -> int:
        return len(self.selector.get_map()) - 1


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    loop = Loop(str(tmp_path / "app.sock"))
    yield loop
    loop.end()


class Peer:
    """A blocking client with a deadline."""

    def __init__(self, loop: Loop, request: bytes = b"") -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(loop.server.path)
        self.sock.sendall(request)
        self.file = self.sock.makefile("rb")
        loop.peers.append(self)
        loop.settle()

    def reply(self) -> Any:
        return json.loads(self.file.readline())

    def at_end(self) -> bool:
        try:
            return self.file.readline() == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.file.close()
        self.sock.close()


def ask(**request: object) -> bytes:
    return json.dumps(request).encode() + b"\n"


def test_one_call_from_request_to_exit(loop: Loop) -> None:
    peer = Peer(loop, ask(command="reload", wait=True))
    (call,) = loop.calls
    assert (call.command, call.arguments, call.gone) == ("reload", {"wait": True}, False)
    call.send({"step": "one\ntwo"})
    assert peer.reply() == {"step": "one\ntwo"}
    call.finish(1, error="no")
    assert peer.reply() == {"exit": 1, "error": "no"}
    assert peer.at_end()
    call.send({"late": 1})
    call.finish(0)
    assert loop.clients == 0


def test_a_request_byte_by_byte(loop: Loop) -> None:
    peer = Peer(loop)
    for byte in ask(command="status"):
        assert loop.calls == []
        peer.sock.send(bytes([byte]))
        loop.settle()
    assert loop.calls[0].command == "status"


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"nonsense\n",
        b"[]\n",
        b"1\n",
        b"{}\n",
        b'{"command": 1}\n',
        b"\xff\n",
        b"[" * 50000 + b"\n",
        b'"x"\n',
    ],
)
def test_what_is_no_request_is_answered(loop: Loop, line: bytes) -> None:
    peer = Peer(loop, line)
    reply = peer.reply()
    assert reply["exit"] == 1
    assert "expected a line of JSON" in reply["error"]
    assert peer.at_end()
    assert loop.calls == []
    assert loop.clients == 0


def test_a_request_without_end_is_cut(loop: Loop) -> None:
    peer = Peer(loop)
    peer.sock.setblocking(False)
    sent = 0
    while loop.clients and sent < 1 << 20:
        sent += peer.sock.send(b"x" * 4096)
        loop.settle()
    assert sent <= control_connection.MAX_REQUEST + 2 * 4096
    peer.sock.settimeout(5)
    assert "64 KiB" in peer.reply()["error"]


def test_the_largest_request_passes(loop: Loop) -> None:
    line = ask(command="x", pad="")
    request = ask(command="x", pad="p" * (control_connection.MAX_REQUEST - len(line) + 1))
    assert len(request) == control_connection.MAX_REQUEST + 1  # with its newline
    Peer(loop, request)
    assert loop.calls[0].command == "x"


def test_one_request_per_connection(loop: Loop) -> None:
    peer = Peer(loop, ask(command="one") + ask(command="two"))
    assert "one request" in peer.reply()["error"]
    peer = Peer(loop, ask(command="one"))
    peer.sock.sendall(ask(command="two"))
    loop.settle()
    assert [call.command for call in loop.calls] == ["one"]
    assert loop.calls[0].gone
    assert peer.at_end()


def test_a_client_that_leaves_is_gone(loop: Loop) -> None:
    peer = Peer(loop, ask(command="status"))
    peer.close()
    loop.settle()
    assert loop.calls[0].gone
    loop.calls[0].send({"status": 1})
    loop.calls[0].finish(0)
    assert loop.clients == 0


def test_a_client_that_left_before_the_answer(loop: Loop) -> None:
    """The write finds out before the read event does."""
    peer = Peer(loop, ask(command="status"))
    peer.close()
    loop.calls[0].send({"status": 1})
    assert loop.calls[0].gone
    loop.settle()


@pytest.mark.parametrize("begun", [False, True])
def test_a_handler_that_raises_is_contained(
    loop: Loop, begun: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(call: Call) -> None:
        if begun:
            call.send({"step": "begun"})
        raise ZeroDivisionError("oops")

    loop.on_call = fail
    peer = Peer(loop, ask(command="status"))
    if begun:
        assert peer.reply() == {"step": "begun"}
    assert peer.reply() == {"exit": 1, "error": "ZeroDivisionError: oops"}
    assert peer.at_end()
    assert "Traceback" in caplog.text


def test_a_large_reply_goes_out_piece_by_piece(loop: Loop) -> None:
    peer = Peer(loop, ask(command="status"))
    text = "x" * (control_connection.MAX_QUEUED - 100)
    loop.calls[0].send({"status": text})  # does not block, though nobody reads
    loop.calls[0].finish(0)
    loop.calls[0].send({"late": 1})
    assert loop.clients == 1
    received = b""
    while data := peer.sock.recv(65536):
        received += data
        loop.settle()
    first, second = received.splitlines()
    assert json.loads(first) == {"status": text}
    assert json.loads(second) == {"exit": 0}
    assert loop.clients == 0


def test_a_slow_reader_is_dropped(loop: Loop) -> None:
    Peer(loop, ask(command="status"))
    (call,) = loop.calls
    sent = 0
    while not call.gone:
        call.send({"step": "x" * 100_000})
        sent += 100_000
        assert sent < control_connection.MAX_QUEUED + 10_000_000
    assert loop.clients == 0


def count_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_descriptors_travel_with_their_reply(loop: Loop) -> None:
    peer = Peer(loop, ask(command="connections"))
    before = count_fds()
    fds = [os.memfd_create("rows") for _ in range(2)]
    os.write(fds[0], b"first")
    loop.calls[0].send({"pid": 1}, fds)
    for fd in fds:
        os.close(fd)
    data, received, _, _ = socket.recv_fds(peer.sock, 65536, 8)
    assert json.loads(data) == {"pid": 1, "fds": 2}
    assert os.pread(received[0], 10, 0) == b"first"
    for fd in received:
        os.close(fd)
    assert count_fds() == before


def test_queued_descriptors_are_bounded_and_closed(loop: Loop) -> None:
    before = count_fds()
    peer = Peer(loop, ask(command="connections"))
    (call,) = loop.calls
    with open("/dev/null") as null:
        call.send({"pad": "x" * 1_000_000})  # what follows must wait
        for _ in range(control_connection.MAX_QUEUED_FDS):
            call.send({"pid": 1}, [null.fileno()])
        assert not call.gone
        call.send({"pid": 1}, [null.fileno()])
    assert call.gone
    peer.close()
    assert count_fds() == before


def test_a_descriptor_that_is_none_drops_the_client_only(loop: Loop) -> None:
    Peer(loop, ask(command="connections"))
    loop.calls[0].send({"pid": 1}, [9999])
    assert loop.calls[0].gone


def test_idle_clients_make_room_oldest_first(loop: Loop) -> None:
    idle = [Peer(loop) for _ in range(control_server.MAX_CLIENTS)]
    peer = Peer(loop, ask(command="status"))
    assert loop.calls[0].command == "status"
    assert idle[0].at_end()
    assert loop.clients == control_server.MAX_CLIENTS
    loop.calls[0].finish(0)
    assert peer.reply() == {"exit": 0}


def test_clients_that_are_worked_for_do_not_make_room(loop: Loop) -> None:
    busy = [Peer(loop, ask(command="reload")) for _ in range(control_server.MAX_CLIENTS)]
    assert Peer(loop).at_end()
    assert not any(call.gone for call in loop.calls)
    loop.calls[3].finish(0)
    assert busy[3].reply() == {"exit": 0}
    Peer(loop, ask(command="status"))
    assert loop.calls[-1].command == "status"


def test_another_user_is_refused(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other, root = Credentials(77, os.geteuid() + 4711, 1), Credentials(77, 0, 0)
    monkeypatch.setattr(control_server, "credentials_of", lambda sock: other)
    assert Peer(loop, ask(command="stop")).at_end()
    assert loop.calls == []
    assert f"refused uid {os.geteuid() + 4711} (pid 77)" in caplog.text
    monkeypatch.setattr(control_server, "credentials_of", lambda sock: root)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    Peer(loop, ask(command="status"))
    assert loop.calls[0].command == "status"


def test_out_of_descriptors_the_loop_does_not_spin(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(5)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count_fds() - 1, limits[1]))
    try:
        filler = []
        while True:
            try:
                filler.append(os.dup(0))
            except OSError:
                break
        sock.connect(loop.server.path)
        loop.settle()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in filler:
            os.close(fd)
    assert sock.recv(1) == b""
    sock.close()
    assert "cannot accept" in caplog.text
    Peer(loop, ask(command="status"))
    assert loop.calls[0].command == "status"


def test_the_socket_is_private_whatever_the_umask(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        loop = Loop(str(tmp_path / "app.sock"))
        assert stat.S_IMODE(os.stat(loop.server.path).st_mode) == 0o600
        assert os.umask(0) == 0
    finally:
        os.umask(mask)
    loop.end()
    assert os.listdir(tmp_path) == []


def test_a_dead_socket_is_replaced_and_a_live_one_not(loop: Loop, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another instance listens"):
        ControlServer(loop.server.path, loop.selector, loop.handle).open()
    Peer(loop, ask(command="status"))  # still served
    dead = str(tmp_path / "dead.sock")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(dead)
    Loop(dead).end()


def test_a_path_that_cannot_be_bound_is_named(loop: Loop, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no/app\.sock: No such file"):
        ControlServer(str(tmp_path / "no" / "app.sock"), loop.selector, loop.handle).open()


def test_close_leaves_the_socket_of_a_successor(loop: Loop) -> None:
    os.unlink(loop.server.path)
    successor = Loop(loop.server.path)
    loop.server.close()
    assert os.path.exists(successor.server.path)
    Peer(successor, ask(command="status"))
    successor.end()


def test_a_socket_that_is_in_place_is_left_alone(loop: Loop) -> None:
    before = os.lstat(loop.server.path).st_ino
    assert not loop.server.restore(loop.server.path)
    assert not loop.server.restore(None)
    assert os.lstat(loop.server.path).st_ino == before


def test_a_socket_that_is_gone_is_opened_anew(loop: Loop) -> None:
    """Who is connected stays so."""
    before = count_fds()
    peer = Peer(loop, ask(command="reload"))
    os.unlink(loop.server.path)
    assert loop.server.restore(loop.server.path)
    loop.calls[0].finish(0)
    assert peer.reply() == {"exit": 0}
    Peer(loop, ask(command="status")).close()
    assert loop.calls[1].command == "status"
    peer.close()
    loop.settle()
    assert count_fds() == before


def test_a_socket_moves_with_its_directory(loop: Loop, tmp_path: Path) -> None:
    before = loop.server.path
    assert loop.server.restore(str(tmp_path / "other.sock"))
    assert not os.path.exists(before)
    Peer(loop, ask(command="status"))
    assert len(loop.calls) == 1


def test_a_socket_that_cannot_be_opened_anew_is_tried_again(loop: Loop) -> None:
    os.unlink(loop.server.path)
    os.mkdir(loop.server.path)
    for _ in range(2):
        with pytest.raises(ConfigError, match="a file that is no socket"):
            loop.server.restore(loop.server.path)
    os.rmdir(loop.server.path)
    assert loop.server.restore(loop.server.path)
    Peer(loop, ask(command="status"))


def test_close_ends_the_clients_and_may_be_repeated(loop: Loop) -> None:
    before = count_fds()
    peer = Peer(loop, ask(command="stop"))
    loop.server.close()
    assert peer.at_end()
    assert loop.calls[0].gone
    assert len(loop.selector.get_map()) == 0
    loop.server.close()
    peer.close()
    assert count_fds() == before - 3  # listener, its file, and the spare


def test_a_forked_child_lets_go_without_harm(loop: Loop) -> None:
    peer = Peer(loop, ask(command="reload"))
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            loop.server.close_in_child()
            loop.calls[0].send({"from": "child"})
            loop.calls[0].finish(0)
            loop.server.close()
            code = (
                0 if len(_sockets() - loop.strangers) == 1 else 2
            )  # the peer's own end is all that is left
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    loop.settle()
    loop.calls[0].send({"from": "parent"})
    assert peer.reply() == {"from": "parent"}
    assert os.path.exists(loop.server.path)
    Peer(loop, ask(command="status"))
    assert len(loop.calls) == 2


def _sockets() -> set[str]:
    """All sockets that this process has open."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
    return {link for link in found if link.startswith("socket:")}


def test_who_waits_for_an_answer_is_told_that_the_arbiter_is_alive(loop: Loop) -> None:
    waiting, answered, silent = (
        Peer(loop, ask(command="reload")),
        Peer(loop, ask(command="status")),
        Peer(loop),
    )
    for call in loop.calls[1:]:
        call.finish(0)
    loop.server.pulse(100.0)
    loop.server.pulse(100.0 + control_server.PULSE_SECONDS - 0.1)
    loop.calls[0].finish(0)
    assert [waiting.reply(), waiting.reply()] == [control_server.PULSE, {"exit": 0}]
    assert answered.reply() == {"exit": 0}
    loop.server.pulse(200.0)
    silent.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        silent.sock.recv(1)


def test_what_an_upgrade_would_lose(loop: Loop) -> None:
    """A request that nobody has read, or one without its answer; but the request for the upgrade
    goes along."""
    assert not loop.server.is_busy()
    peer = Peer(loop)
    assert loop.server.is_busy(), "it has only just connected"
    loop.until(lambda: not loop.server.is_busy())
    peer.sock.sendall(ask(command="connections"))
    loop.until(loop.server.is_busy)
    loop.settle()
    assert loop.server.is_busy()
    loop.calls[0].finish(0)
    Peer(loop, ask(command="upgrade"))
    assert len(loop.calls) == 2
    assert not loop.server.is_busy()
