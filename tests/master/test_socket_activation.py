"""Sockets that a service manager has bound: which Worker gets which, and what is refused.
sd_listen_fds(3)."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gworker.errors import ConfigError
from gworker.ipc.declaration import Declaration
from gworker.master import socket_activation
from gworker.master.listeners import Listeners
from gworker.master.plan import Plan, listener_key, make_plan
from gworker.master.socket_activation import Activated, Inherited, inherited
from gworker.system.address import Address, parse

Bind = Callable[..., socket.socket]


@pytest.fixture
def bind() -> Iterator[Bind]:
    made: list[socket.socket] = []

    def one(family: int, kind: int, where: object, listen: bool = True) -> socket.socket:
        made.append(socket.socket(family, kind))
        made[-1].bind(where)  # type: ignore[arg-type]
        if listen and kind != socket.SOCK_DGRAM:
            made[-1].listen(8)
        return made[-1]

    yield one
    for each in made:
        each.close()


def passed(*named: tuple[str, socket.socket]) -> Activated:
    """As if these had been passed under these names."""
    return Activated(Inherited(os.dup(each.fileno()), name) for name, each in named)


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def declared(
    name: str, listen: str, transport: str | None = None, reuse_port: bool = False
) -> Declaration:
    return Declaration(
        name=name, listen=listen, transport=transport, count=2 if reuse_port else None, user=None,
        group=None,
        reloadable=True, reuse_port=reuse_port, backlog=16,
    )  # fmt: skip


def plan(*declarations: Declaration) -> Plan:
    return make_plan(declarations, None, Plan())


# ---- the variables


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"LISTEN_FDS": "two"}, "LISTEN_FDS='two' is not a whole number"),
        ({"LISTEN_FDS": "-1"}, "LISTEN_FDS='-1' is not a whole number"),
        ({"LISTEN_FDS": "100000"}, "LISTEN_FDS='100000' is not a whole number up to 1024"),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "me"}, "LISTEN_PID='me' is not a whole number"),
        (
            {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "a"},
            "LISTEN_FDNAMES='a' has 1 names for LISTEN_FDS=2 sockets",
        ),
        ({"LISTEN_FDS": "1000"}, "LISTEN_FDS=1000, but descriptor [0-9]+ is not open"),
    ],
)
def test_variables_that_make_no_sense_are_named(variables: dict[str, str], fault: str) -> None:
    environment = {"LISTEN_PID": "7", **variables}
    with pytest.raises(ConfigError, match=fault):
        inherited(environment, 7, [])
    assert environment == {}


@pytest.mark.parametrize(
    "variables",
    [{}, {"LISTEN_FDS": "3"}, {"LISTEN_PID": "7"}, {"LISTEN_PID": "7", "LISTEN_FDS": "0"}],
)
def test_nothing_was_passed(variables: dict[str, str]) -> None:
    complaints: list[str] = []
    assert inherited(variables, 7, complaints) == []
    assert complaints == []


def test_descriptors_and_names(monkeypatch: pytest.MonkeyPatch, bind: Bind) -> None:
    listener = bind(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
    copy = os.dup(listener.fileno())
    os.set_inheritable(copy, True)
    monkeypatch.setattr(socket_activation, "FIRST", copy)
    environment = {
        "LISTEN_PID": "7",
        "LISTEN_FDS": "1",
        "LISTEN_FDNAMES": "web",
        "LISTEN_PIDFDID": "1",
    }
    assert inherited(environment, 7, []) == [Inherited(copy, "web")]
    assert environment == {}
    assert not os.get_inheritable(copy), "programs that user code starts must not hold it"
    assert inherited({"LISTEN_PID": "7", "LISTEN_FDS": "1"}, 7, []) == [Inherited(copy, "unknown")]
    os.close(copy)


# ---- which Worker gets which


def test_the_name_goes_before_the_address(bind: Bind) -> None:
    by_address = bind(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
    by_name = bind(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
    given = passed(("x", by_address), ("web", by_name))
    found = given.find("web", parse(f"tcp://127.0.0.1:{port_of(by_address)}"))
    assert found is not None
    assert found.getsockname() == by_name.getsockname()
    other = given.find("other", parse(f"tcp://127.0.0.1:{port_of(by_address)}"))
    assert other is not None
    assert other.getsockname() == by_address.getsockname()
    for each in (found, other):
        each.close()
    given.close()


def test_of_several_with_one_name_the_address_decides(bind: Bind) -> None:
    first, second = (bind(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)) for _ in range(2))
    given = passed(("web", first), ("web", second))
    for port, expected in ((port_of(second), second), (1, first)):
        found = given.find("web", parse(f"tcp://127.0.0.1:{port}"))
        assert found is not None
        assert found.getsockname() == expected.getsockname()
        found.close()
    given.close()


@pytest.mark.parametrize(
    ("family", "host", "declared_host", "fits"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1", True),
        (socket.AF_INET, "127.0.0.1", "localhost", True),
        (socket.AF_INET, "127.0.0.1", "127.0.0.2", False),
        (socket.AF_INET, "127.0.0.1", "0.0.0.0", False),
        (socket.AF_INET, "0.0.0.0", "0.0.0.0", True),
        (socket.AF_INET6, "::", "0.0.0.0", True),
        (socket.AF_INET6, "::", "[::]", True),
        (socket.AF_INET6, "::1", "[::1]", True),
        (socket.AF_INET6, "::1", "127.0.0.1", False),
        (socket.AF_INET, "127.0.0.1", "no.such.host.invalid", False),
    ],
)
def test_the_same_address(
    bind: Bind, family: int, host: str, declared_host: str, fits: bool
) -> None:
    try:
        listener = bind(family, socket.SOCK_STREAM, (host, 0))
    except OSError:
        pytest.skip(f"{host} cannot be bound here")
    assert (
        socket_activation.is_bound_to(
            listener.fileno(), parse(f"tcp://{declared_host}:{port_of(listener)}")
        )
        == fits
    )
    assert not socket_activation.is_bound_to(
        listener.fileno(), parse(f"tcp://{declared_host}:{port_of(listener) - 1}")
    )
    assert not socket_activation.is_bound_to(
        listener.fileno(), parse(f"udp://{declared_host}:{port_of(listener)}")
    )
    assert not socket_activation.is_bound_to(listener.fileno(), parse(f"tcp://{declared_host}:0"))


def test_a_socket_for_ipv6_only_is_not_all_of_ipv4() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            listener.bind(("::", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        listener.listen(1)
        assert not socket_activation.is_bound_to(
            listener.fileno(), parse(f"tcp://0.0.0.0:{port_of(listener)}")
        )
        assert socket_activation.is_bound_to(
            listener.fileno(), parse(f"tcp://[::]:{port_of(listener)}")
        )


def test_unix_sockets_and_datagrams(bind: Bind, tmp_path: Path) -> None:
    unix = bind(socket.AF_UNIX, socket.SOCK_STREAM, str(tmp_path / "a.sock"))
    datagrams = bind(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
    assert socket_activation.is_bound_to(unix.fileno(), parse(f"text://{tmp_path}/a.sock", "unix"))
    assert not socket_activation.is_bound_to(
        unix.fileno(), parse(f"text://{tmp_path}/b.sock", "unix")
    )
    assert not socket_activation.is_bound_to(unix.fileno(), parse("tcp://127.0.0.1:80"))
    assert socket_activation.is_bound_to(
        datagrams.fileno(), parse(f"udp://127.0.0.1:{port_of(datagrams)}")
    )


# ---- what does not fit


def refused(address: Address, descriptor: int) -> str:
    given = Activated([Inherited(os.dup(descriptor), "web")])
    with pytest.raises(
        ConfigError, match=r"Worker 'web' cannot listen on the activated socket 'web' \(descriptor "
    ) as e:
        given.find("web", address)
    given.close()
    return str(e.value)


def test_a_named_socket_of_the_wrong_kind_is_an_error(bind: Bind, tmp_path: Path) -> None:
    stream = bind(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
    datagrams = bind(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
    packets = bind(socket.AF_UNIX, socket.SOCK_SEQPACKET, str(tmp_path / "s"))
    unix_datagrams = bind(socket.AF_UNIX, socket.SOCK_DGRAM, str(tmp_path / "d"))
    tcp, udp = parse("tcp://127.0.0.1:1"), parse("udp://127.0.0.1:1")
    assert (
        f"datagram socket (ListenDatagram=), and it is stream at 127.0.0.1:{port_of(stream)}"
        in refused(udp, stream.fileno())
    )
    assert "stream socket (ListenStream=), and it is datagram at " in refused(
        tcp, datagrams.fileno()
    )
    assert f"and it is seqpacket at {tmp_path}/s" in refused(tcp, packets.fileno())
    assert f"and it is datagram at {tmp_path}/d" in refused(udp, unix_datagrams.fileno())


def test_a_connection_or_a_file_is_no_listener(bind: Bind, tmp_path: Path) -> None:
    silent = bind(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0), listen=False)
    assert "it does not listen: a socket unit must say Accept=no" in refused(
        parse("tcp://127.0.0.1:1"), silent.fileno()
    )
    with open(tmp_path / "file", "w") as file:
        assert "it is not a socket" in refused(parse("tcp://127.0.0.1:1"), file.fileno())


# ---- as the arbiter's listeners


def test_an_activated_socket_is_served_and_its_path_stays(bind: Bind, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    listeners = Listeners()
    listeners.activated = passed(("web", bind(socket.AF_UNIX, socket.SOCK_STREAM, str(path))))
    found = plan(declared("web", f"text://{path}", "unix"))
    listeners.open_for(found)
    (held,) = listeners.held.values()
    assert held.address == Address("text", "unix", path=str(path))
    assert not held.sockets[0].gettimeout(), "it does not block"
    listeners.close()
    assert path.exists(), "it is the manager's"


def test_one_that_a_reload_drops_comes_back(bind: Bind) -> None:
    listener = bind(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
    listeners = Listeners()
    listeners.activated = passed(("web", listener))
    there = plan(declared("web", "tcp://127.0.0.1:1"))
    for _ in range(2):
        listeners.open_for(there)
        (held,) = listeners.held.values()
        assert held.port == port_of(listener)
        listeners.keep_only(set())
    listeners.close()


def test_with_reuse_port_all_slots_share_it(bind: Bind) -> None:
    listener = bind(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
    listeners = Listeners()
    listeners.activated = passed(("web", listener))
    listeners.open_for(plan(declared("web", "tcp://127.0.0.1:0", reuse_port=True)))
    assert [each.port for each in listeners.held.values()] == [port_of(listener)] * 2
    listeners.close()


def test_accepted_connections_notice_dead_peers(bind: Bind) -> None:
    listener = bind(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
    listeners = Listeners()
    listeners.activated = passed(("web", listener))
    address = parse("tcp://127.0.0.1:0")
    held = listeners.open(listener_key(address, "web"), address, 16, "web")
    assert held.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    listeners.close()


def test_what_no_worker_wants_is_named_once(bind: Bind, caplog: pytest.LogCaptureFixture) -> None:
    listener = bind(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
    wanted = bind(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
    listeners = Listeners()
    listeners.activated = passed(("wbe", listener), ("web", wanted))
    with caplog.at_level(logging.WARNING, "gworker"):
        for _ in range(2):
            listeners.open_for(plan(declared("web", "tcp://127.0.0.1:0"), declared("timers", None)))  # type: ignore[arg-type]
    assert [record.message.partition(" (")[0] for record in caplog.records] == [
        "no Worker wants the activated socket 'wbe'"
    ]
    assert f"stream at 127.0.0.1:{port_of(listener)}" in caplog.text
    listeners.close()


def test_children_and_the_end_close_all(bind: Bind) -> None:
    listener = bind(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
    copy = os.dup(listener.fileno())
    listeners = Listeners()
    listeners.activated = Activated([Inherited(copy, "web")])
    listeners.close_in_child()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(copy)
