"""The client of the control socket: replies, descriptors, silence, and ends too early."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from unix_listener import listening_at

from gworker.cli import control_client
from gworker.cli.control_client import Connection, ControlError, Gone
from gworker.cli.instances import Instance, NotRunning
from gworker.master.runtime_files import RuntimeFiles
from gworker.system.peer_address import Credentials


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair()
    connection = Connection(ours, Instance("shop", os.getpid(), ""), silence=5)
    yield connection, theirs
    connection.close()
    theirs.close()


def test_replies_in_pieces_and_together(pair: tuple[Connection, socket.socket]) -> None:
    connection, theirs = pair
    theirs.sendall(b'{"a": 1}\n{"b"')
    replies = connection.call("x")
    assert next(replies) == {"a": 1}
    theirs.sendall(b': 2}\n{"exit": 0}\n{"late": 1}\n')
    assert list(replies) == [{"b": 2}, {"exit": 0}]
    assert json.loads(theirs.recv(100)) == {"command": "x"}


def test_descriptors_belong_to_the_reply_that_says_so(
    pair: tuple[Connection, socket.socket],
) -> None:
    connection, theirs = pair
    fds = [os.memfd_create(name) for name in "abc"]
    theirs.sendall(b'{"none": 1}\n')
    socket.send_fds(theirs, [b'{"fds": 2}\n'], fds[:2])
    socket.send_fds(theirs, [b'{"fds": 1}\n{"exit": 0}\n'], fds[2:])
    replies = list(connection.call("x"))
    names = [
        [os.readlink(f"/proc/self/fd/{fd}").split(":")[1][0] for fd in reply.fds]
        for reply in replies
    ]
    assert names == [[], ["a", "b"], ["c"], []]
    assert not any(os.get_inheritable(fd) for reply in replies for fd in reply.fds)
    for reply in replies:
        for fd in reply.fds:
            os.close(fd)
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("line", [b"nonsense\n", b"[1]\n", b"1\n", b'{"fds": "x"}\n', b"\xff\n"])
def test_nonsense_is_an_error(pair: tuple[Connection, socket.socket], line: bytes) -> None:
    connection, theirs = pair
    theirs.sendall(line)
    with pytest.raises(ControlError, match="makes no sense"):
        list(connection.call("x"))


def test_silence_is_an_error_at_the_deadline() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(ours, Instance("shop", os.getpid(), ""), silence=0.1)
    theirs.sendall(b'{"step": 1}\n')
    began = time.monotonic()
    with pytest.raises(ControlError, match="does not answer"):
        list(connection.call("x"))
    assert time.monotonic() - began < 5
    connection.close()
    theirs.close()


@pytest.mark.parametrize("data", [b"", b'{"step": 1}\n', b'{"exit": 0}'])
def test_an_end_too_early_is_gone(pair: tuple[Connection, socket.socket], data: bytes) -> None:
    connection, theirs = pair
    theirs.sendall(data)
    theirs.close()
    with pytest.raises(Gone):
        list(connection.call("x"))


def test_a_request_that_was_never_read_is_gone_too(pair: tuple[Connection, socket.socket]) -> None:
    """The kernel then reports a reset instead of an end."""
    connection, theirs = pair
    theirs.sendall(b'{"step": 1}\n')
    replies = connection.call("x")
    assert next(replies) == {"step": 1}
    theirs.close()
    with pytest.raises(Gone):
        next(replies)


def test_connect_errors(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="no control socket"):
        control_client.connect(Instance("shop", 1, str(tmp_path / "app.sock")))
    with listening_at(str(tmp_path / "app.sock")):
        pass
    with pytest.raises(NotRunning, match="no control socket"):
        control_client.connect(Instance("shop", 1, str(tmp_path / "app.sock")))


def test_a_socket_of_another_user_gets_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "app.sock")
    with listening_at(path):
        pid = os.getpid()
        control_client.connect(Instance("shop", pid, path)).close()
        with pytest.raises(ControlError, match=rf"another program's \(pid {pid}, uid"):
            control_client.connect(Instance("shop", 1, path))
        other = Credentials(pid, 4712, 1)
        monkeypatch.setattr(control_client, "credentials_of", lambda sock: other)
        with pytest.raises(ControlError, match=rf"another program's \(pid {pid}, uid 4712\)"):
            control_client.connect(Instance("shop", pid, path))


def test_a_long_path(tmp_path: Path) -> None:
    files = RuntimeFiles([str(tmp_path / ("d" * 120))], "shop")
    files.acquire()
    assert files.socket_path is not None
    with listening_at(files.socket_path):
        control_client.connect(Instance("shop", os.getpid(), files.socket_path)).close()
    files.release()
