"""The control socket in an event loop of selectors: its place, its clients, its end."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

import pytest
from control_loop import Loop, Peer, ask

from gworker.errors import ConfigError
from gworker.master import control_server
from gworker.master.control_server import ControlServer
from gworker.system.peer_address import Credentials


def count_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


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
    """Clients that are connected stay so."""
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
                0 if len(sockets() - loop.strangers) == 1 else 2
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


def sockets() -> set[str]:
    """All sockets that this process has open."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
    return {link for link in found if link.startswith("socket:")}


def test_a_client_that_waits_is_told_that_the_arbiter_is_alive(loop: Loop) -> None:
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
