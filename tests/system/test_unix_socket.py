"""The file of a unix socket: never open to more than is asked for, ours alone to remove."""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import asdict
from pathlib import Path

import pytest
from unix_listener import listening_at

from gworker.app.worker import Worker
from gworker.errors import ConfigError
from gworker.ipc.declaration import Declaration
from gworker.master.listeners import Listeners
from gworker.master.plan import Plan, make_plan
from gworker.system import pktinfo
from gworker.system.address import parse
from gworker.system.bind import bind, bound_address
from gworker.system.peer_address import credentials_of
from gworker.system.unix_socket import HeldError, UnixFile, address_of


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


def modes_while_binding(path: Path, file: UnixFile, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The modes that the file had from bind(2) on."""
    seen: list[int] = []
    apply = UnixFile.apply
    chmod, chown = os.chmod, os.chown

    def look(*_: object) -> None:
        seen.append(mode(path))

    monkeypatch.setattr(UnixFile, "apply", lambda self, *names: (look(), apply(self, *names))[1])
    monkeypatch.setattr(os, "chown", lambda *arguments: (chown(*arguments), look())[0])
    monkeypatch.setattr(os, "chmod", lambda *arguments: (look(), chmod(*arguments), look())[1])
    bind(parse(f"unix://{path}"), backlog=1, file=file).close()
    return seen


def test_there_is_no_moment_in_which_more_is_allowed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = UnixFile(0o660, str(os.getuid()), str(os.getgid()))
    before = os.umask(0)
    try:
        assert modes_while_binding(path, file, monkeypatch) == [0o600, 0o600, 0o600, 0o660]
        assert os.umask(0) == 0
    finally:
        os.umask(before)


def test_without_a_mode_it_is_what_the_umask_leaves(path: Path) -> None:
    before = os.umask(0o027)
    try:
        bind(parse(f"unix://{path}"), backlog=1).close()
        assert mode(path) == 0o750
        bind(parse(f"unix://{path}"), backlog=1, file=UnixFile(None, str(os.getuid()))).close()
        assert mode(path) == 0o750
    finally:
        os.umask(before)


def test_who_does_not_exist(path: Path) -> None:
    with pytest.raises(ConfigError, match="group 'nobody-of-this-name' does not exist"):
        bind(parse(f"unix://{path}"), backlog=1, file=UnixFile(0o600, None, "nobody-of-this-name"))
    assert not path.exists()


def test_what_cannot_be_given_away_leaves_no_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refused)
    with pytest.raises(ConfigError, match="cannot give .* to user 12345: only root can"):
        bind(parse(f"unix://{path}"), backlog=1, file=UnixFile(0o600, "12345"))
    assert not path.exists()


def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(ConfigError, match="there is a file that is no socket"):
        bind(parse(f"unix://{path}"), backlog=1)
    assert path.read_text() == "mine"
    path.unlink()
    path.symlink_to("/etc/hosts")
    with pytest.raises(ConfigError, match="no socket any more"):
        UnixFile(0o777).apply(str(path))


def test_what_a_symlink_leads_to_is_not_touched(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    bind(parse(f"unix://{other}"), backlog=1, file=UnixFile(0o600)).close()
    path.symlink_to(other)
    with pytest.raises(ConfigError, match="no socket any more"):
        UnixFile(0o666).apply(str(path))
    assert mode(other) == 0o600


def plan(path: Path, **fields: object) -> Plan:
    worker = Worker(f"unix://{path}", name="w", **fields)  # type: ignore[arg-type]
    return make_plan([Declaration(**asdict(worker.declaration()))], None, Plan())


def test_a_plan_that_is_put_into_force_changes_the_mode_and_nothing_of_others(path: Path) -> None:
    held = Listeners()
    held.open_for(plan(path, unix_mode=0o600))
    held.open_for(plan(path, unix_mode="0666"))
    assert mode(path) == 0o600  # it may yet be refused
    held.apply_files(plan(path, unix_mode="0666"))
    assert mode(path) == 0o666
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        theirs = mode(path)
        held.apply_files(plan(path, unix_mode=0o600))
        assert mode(path) == theirs != 0o600
        held.close()
        assert path.exists()


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"unix_mode": "rw"}, "unix_mode='rw' is not valid, expected an octal"),
        ({"unix_mode": 0o1777}, "expected an octal mode"),
        ({"unix_mode": True}, "expected an octal mode"),
        ({"unix_user": ""}, "unix_user='' is not valid, expected a name or a numeric id"),
        ({"proxy_protocol": "yes"}, "expected True or False"),
        ({"forwarded_allow_ips": "localhost"}, "expected IP addresses or networks"),
        ({"forwarded_allow_ips": 5}, "expected IP addresses or networks"),
    ],
)
def test_bad_options(options: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        Worker("unix:///x", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["unix://@", "unix://@" + "x" * 107, "unix://@a\0b"])
def test_names_that_are_none(url: str) -> None:
    with pytest.raises(ConfigError, match="unix"):
        parse(url)


def test_an_abstract_name_is_free_again_when_its_socket_is_closed(tmp_path: Path) -> None:
    address = parse(f"unix://@gworker-{tmp_path.name}-{os.getpid()}")
    first = bind(address, backlog=1)
    with pytest.raises(ConfigError, match="in use"):
        bind(address, backlog=1)
    first.close()
    again = bind(address, backlog=1)
    assert bound_address(again, address) == address
    again.close()


# ---- what a datagram tells of its way


@pytest.mark.parametrize(
    ("ancillary", "expected"),
    [
        ([], None),
        (
            [(0, 8, b"\x02\0\0\0\x0a\0\0\x01\x0a\0\0\xff")],
            ("10.0.0.1", [(0, 8, b"\0\0\0\0\x0a\0\0\x01\0\0\0\0")]),
        ),
        (
            [(0, 8, b"\0\0\0\0\0\0\0\0\x0a\0\0\x01")],
            ("10.0.0.1", [(0, 8, b"\0\0\0\0\x0a\0\0\x01\0\0\0\0")]),
        ),
        ([(41, 50, b"\xff\x02" + bytes(13) + b"\x01" + b"\x02\0\0\0")], None),
        (
            [(41, 50, bytes(15) + b"\x01" + b"\x02\0\0\0")],
            ("::1", [(41, 50, bytes(15) + b"\x01" + b"\0\0\0\0")]),
        ),
        (
            [(41, 50, b"\xfe\x80" + bytes(13) + b"\x01" + b"\x02\0\0\0")],
            ("fe80::1", [(41, 50, b"\xfe\x80" + bytes(13) + b"\x01" + b"\x02\0\0\0")]),
        ),
        ([(1, 1, b"x"), (0, 8, b"short")], None),
    ],
)
def test_the_way_back(ancillary: list[tuple[int, int, bytes]], expected: object) -> None:
    assert pktinfo.way_back(ancillary) == expected


@pytest.mark.parametrize("length", [107, 108, 150, 900])
def test_paths_of_any_length(tmp_path: Path, length: int) -> None:
    directory = str(tmp_path)
    while len(directory) < length - 20:
        directory += "/" + "d" * min(200, length - 15 - len(directory))
    os.makedirs(directory, exist_ok=True)
    path = directory + "/" + "s" * (length - len(directory) - 1)
    assert len(path) == length
    with listening_at(path), socket.socket(socket.AF_UNIX) as client:
        assert mode(Path(path)) == 0o600
        with address_of(path) as address:
            client.connect(address)
        assert credentials_of(client) == (os.getpid(), os.geteuid(), os.getegid())
        with pytest.raises(HeldError), listening_at(path):
            pass
    with listening_at(path):  # what a dead process has left
        pass


def test_only_sockets_are_replaced(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(ConfigError, match="a file that is no socket"), listening_at(str(path)):
        pass
    assert path.read_text() == "precious"
