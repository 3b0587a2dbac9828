"""The listeners of the arbiter: what is bound, kept, shared and removed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from world import declaration

from gworker.errors import ConfigError
from gworker.master.listeners import Listener, Listeners
from gworker.master.plan import Plan, make_plan
from gworker.system.address import parse
from gworker.system.bind import bind


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    held = Listeners()
    yield held
    held.keep_only(set())


def plan_of(*urls: str, **fields: object) -> Plan:
    found = [declaration(f"w{number}", listen=url, **fields) for number, url in enumerate(urls)]
    return make_plan(found, None, Plan())


def open_listener(
    listeners: Listeners, plan: Plan, worker: str = "w0", number: int = 0
) -> Listener:
    listeners.open_for(plan)
    key = plan.key((worker, number))
    assert key is not None
    found = listeners.held.get(key)
    assert found is not None
    return found


HAS_IPV6 = socket.has_ipv6 and os.path.exists("/proc/net/if_inet6")


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
@pytest.mark.parametrize(
    ("scheme", "kind"), [("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)]
)
def test_localhost_is_both_families_at_one_port(
    listeners: Listeners, scheme: str, kind: int
) -> None:
    held = open_listener(listeners, plan_of(f"{scheme}://localhost:0"))
    assert [each.getsockname()[:2] for each in held.sockets] == [
        ("127.0.0.1", held.port),
        ("::1", held.port),
    ]
    assert {each.type for each in held.sockets} == {kind}
    listeners.close_in_child(held.descriptors)
    assert len([each for each in held.descriptors if each >= 0]) == 2
    listeners.keep_only(set())
    assert held.descriptors == (-1, -1)


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
@pytest.mark.parametrize("taken", ["tcp://127.0.0.1:0", "tcp://[::1]:0"])
def test_localhost_is_refused_if_either_half_is_taken(listeners: Listeners, taken: str) -> None:
    with closing(bind(parse(taken), backlog=8)) as other:
        port = other.getsockname()[1]
        named = taken.replace(":0", f":{port}").replace("[", r"\[").replace("]", r"\]")
        with pytest.raises(ConfigError, match=f"cannot listen on {named}: the address is in use"):
            listeners.open_for(plan_of(f"tcp://localhost:{port}"))
    assert not listeners.held


def test_localhost_is_what_the_machine_has_of_it(
    listeners: Listeners, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gworker.system.bind.LOCALHOST", ("127.0.0.1", "2001:db8::1"))
    held = open_listener(listeners, plan_of("tcp://localhost:0"))
    assert [each.getsockname()[0] for each in held.sockets] == ["127.0.0.1"]
    monkeypatch.setattr("gworker.system.bind.LOCALHOST", ("192.0.2.1", "2001:db8::1"))
    with pytest.raises(ConfigError, match="is not an address of this machine"):
        listeners.open_for(plan_of("tcp://localhost:0", "udp://localhost:0"))


# ---- files of unix sockets


def test_the_file_goes_with_its_listener(tmp_path: Path, listeners: Listeners) -> None:
    path = tmp_path / "x.sock"
    open_listener(listeners, plan_of(f"unix://{path}"))
    assert path.is_socket()
    listeners.keep_only(set())
    assert not path.exists()


def test_the_file_of_another_program_stays(tmp_path: Path, listeners: Listeners) -> None:
    path = tmp_path / "x.sock"
    open_listener(listeners, plan_of(f"unix://{path}"))
    path.rename(tmp_path / "moved")
    path.write_text("theirs")
    listeners.keep_only(set())
    assert path.read_text() == "theirs"


def test_a_child_closes_its_copies_and_no_file(tmp_path: Path, listeners: Listeners) -> None:
    path = tmp_path / "x.sock"
    kept = open_listener(listeners, plan_of(f"unix://{path}", "tcp://127.0.0.1:0"))
    (other,) = (each for each in listeners.held.values() if each is not kept)
    listeners.close_in_child(kept.descriptors)
    assert path.is_socket()
    assert kept.sockets[0].fileno() >= 0
    assert other.sockets[0].fileno() == -1


# ---- the set that the arbiter holds


def test_a_listener_is_bound_once_and_kept(listeners: Listeners) -> None:
    plan = plan_of("tcp://127.0.0.1:0")
    first = open_listener(listeners, plan)
    assert open_listener(listeners, plan_of("tcp://127.0.0.1:0", count=3)) is first
    assert len(listeners.held) == 1


def test_another_scheme_at_the_same_port_is_the_same_listener(listeners: Listeners) -> None:
    first = open_listener(listeners, plan_of("tcp://127.0.0.1:0"))
    at_port = plan_of(f"tcp://127.0.0.1:{first.port}")
    listeners.keep_only(set())
    first = open_listener(listeners, at_port)
    assert open_listener(listeners, plan_of(f"websocket://127.0.0.1:{first.port}")) is first


def test_two_workers_that_let_the_kernel_choose_get_two_ports(listeners: Listeners) -> None:
    plan = plan_of("tcp://127.0.0.1:0", "tcp://127.0.0.1:0")
    assert open_listener(listeners, plan, "w0").port != open_listener(listeners, plan, "w1").port


def test_slots_with_reuse_port_share_the_port_that_was_chosen(listeners: Listeners) -> None:
    plan = plan_of("tcp://127.0.0.1:0", reuse_port=True, count=3)
    found = [open_listener(listeners, plan, "w0", number) for number in range(3)]
    assert len({each.port for each in found}) == 1
    assert len({each.sockets[0].fileno() for each in found}) == 3
    grown = plan_of("tcp://127.0.0.1:0", reuse_port=True, count=4)
    assert open_listener(listeners, grown, "w0", 3).port == found[0].port


def test_two_workers_with_reuse_port_and_port_0_do_not_share(listeners: Listeners) -> None:
    plan = plan_of("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", reuse_port=True, count=2)
    assert open_listener(listeners, plan, "w0").port != open_listener(listeners, plan, "w1").port


def test_udp_with_reuse_port(listeners: Listeners) -> None:
    plan = plan_of("udp://127.0.0.1:0", reuse_port=True, count=2)
    assert (
        open_listener(listeners, plan, "w0", 0).port == open_listener(listeners, plan, "w0", 1).port
    )


def test_keep_only_closes_the_rest(listeners: Listeners) -> None:
    plan = plan_of("tcp://127.0.0.1:0", "tcp://127.0.0.1:0")
    kept, closed = open_listener(listeners, plan, "w0"), open_listener(listeners, plan, "w1")
    listeners.keep_only({kept.key})
    assert closed.sockets[0].fileno() == -1
    assert listeners.held.keys() == {kept.key}
    socket.create_connection(("127.0.0.1", kept.port), timeout=5).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", closed.port), timeout=5)


def test_nothing_is_added_when_one_of_several_cannot_be_bound(
    listeners: Listeners, tmp_path: Path
) -> None:
    held = open_listener(listeners, plan_of("tcp://127.0.0.1:0"))
    path = tmp_path / "new.sock"
    with pytest.raises(ConfigError):
        listeners.open_for(plan_of("tcp://127.0.0.1:0", f"unix://{path}", "tcp://192.0.2.1:9"))
    assert listeners.held == {held.key: held}
    assert not path.exists()


@pytest.mark.parametrize(
    ("url", "reuse_port"), [("tcp://0.0.0.0:{}", False), ("tcp://127.0.0.1:{}", True)]
)
def test_a_port_that_this_instance_itself_holds_is_said_to_be_so(
    listeners: Listeners, url: str, reuse_port: bool
) -> None:
    listener = bind(parse("tcp://127.0.0.1:0"), backlog=8)
    port = listener.getsockname()[1]
    listener.close()
    open_listener(listeners, plan_of(f"tcp://127.0.0.1:{port}"))
    with pytest.raises(
        ConfigError, match="this instance holds the port in another way .* takes a restart"
    ):
        listeners.open_for(plan_of(url.format(port), reuse_port=reuse_port))


def test_a_connection_that_waits_survives_until_it_is_accepted(listeners: Listeners) -> None:
    """The queue belongs to the socket that the arbiter holds, not to any process."""
    listener = open_listener(listeners, plan_of("tcp://127.0.0.1:0"))
    with socket.create_connection(("127.0.0.1", listener.port), timeout=5) as client:
        client.sendall(b"hello")
        copy = socket.socket(fileno=os.dup(listener.sockets[0].fileno()))
        copy.close()
        descriptor, _ = listener.sockets[0]._accept()  # type: ignore[attr-defined]
        with socket.socket(fileno=descriptor) as accepted:
            assert accepted.recv(100) == b"hello"
