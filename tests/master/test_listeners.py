"""Binding: real sockets, the words when it fails, and what is kept, shared and removed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from world import declaration

from gworker.errors import ConfigError
from gworker.master.listeners import Listener, Listeners, bind, bound_address
from gworker.master.plan import Plan, make_plan
from gworker.system.address import parse


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
    found = listeners.get(key)
    assert found is not None
    return found


def refused(url: str) -> str:
    with pytest.raises(ConfigError) as caught:
        bind(parse(url), backlog=8).close()
    return str(caught.value)


# ---- kinds of sockets


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:0", "tcp://[::1]:0", "http://:0"])
def test_a_stream_listener_listens(url: str) -> None:
    listener = bind(parse(url), backlog=8)
    address = bound_address(listener, parse(url))
    assert address.port > 0
    assert not listener.gettimeout()
    host = address.host if address.host != "0.0.0.0" else "127.0.0.1"
    socket.create_connection((host, address.port), timeout=5).close()
    listener.close()


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
    assert not listeners.all()


def test_localhost_is_what_the_machine_has_of_it(
    listeners: Listeners, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gworker.master.listeners.LOCALHOST", ("127.0.0.1", "2001:db8::1"))
    held = open_listener(listeners, plan_of("tcp://localhost:0"))
    assert [each.getsockname()[0] for each in held.sockets] == ["127.0.0.1"]
    monkeypatch.setattr("gworker.master.listeners.LOCALHOST", ("192.0.2.1", "2001:db8::1"))
    with pytest.raises(ConfigError, match="is not an address of this machine"):
        listeners.open_for(plan_of("tcp://localhost:0", "udp://localhost:0"))


def test_accepted_sockets_inherit_what_was_set() -> None:
    listener = bind(parse("tcp://127.0.0.1:0"), backlog=8)
    client = socket.create_connection(listener.getsockname(), timeout=5)
    listener.settimeout(5)
    descriptor, _ = listener._accept()  # type: ignore[attr-defined]
    accepted = socket.socket(fileno=descriptor)
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 55
    for each in (accepted, client, listener):
        each.close()


def test_a_datagram_socket_is_bound_and_receives() -> None:
    listener = bind(parse("udp://127.0.0.1:0"), backlog=8)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"hello", listener.getsockname())
    listener.settimeout(5)
    assert listener.recv(100) == b"hello"
    listener.close()


def test_listeners_do_not_reach_programs_that_are_executed() -> None:
    listener = bind(parse("tcp://127.0.0.1:0"), backlog=8)
    assert not os.get_inheritable(listener.fileno())
    listener.close()


def test_a_port_in_time_wait_can_be_bound_again() -> None:
    listener = bind(parse("tcp://127.0.0.1:0"), backlog=8)
    port = listener.getsockname()[1]
    client = socket.create_connection(("127.0.0.1", port), timeout=5)
    listener.settimeout(5)
    descriptor, _ = listener._accept()  # type: ignore[attr-defined]
    os.close(descriptor)  # the side that closes first keeps the port in TIME_WAIT
    client.close()
    listener.close()
    bind(parse(f"tcp://127.0.0.1:{port}"), backlog=8).close()


# ---- the words


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_in_use(scheme: str) -> None:
    first = bind(parse(f"{scheme}://127.0.0.1:0"), backlog=8)
    url = f"{scheme}://127.0.0.1:{first.getsockname()[1]}"
    text = refused(url)
    assert text.startswith(
        f"cannot listen on {url}: the address is in use by another program: {os.getpid()} ("
    )
    first.close()


HOLDING = """
import os, socket, sys, time
holder = socket.socket(getattr(socket, sys.argv[1]), getattr(socket, sys.argv[2]))
holder.bind(("127.0.0.1", 0) if sys.argv[1] == "AF_INET" else sys.argv[3].replace("@", chr(0)))
if sys.argv[2] == "SOCK_STREAM":
    holder.listen()
if os.fork() == 0:  # this one has inherited it, and is not named
    time.sleep(60)
print(holder.getsockname()[1] if sys.argv[1] == "AF_INET" else 0, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("url", "family", "kind"),
    [
        ("tcp://127.0.0.1:{port}", "AF_INET", "SOCK_STREAM"),
        ("tcp://0.0.0.0:{port}", "AF_INET", "SOCK_STREAM"),
        ("udp://127.0.0.1:{port}", "AF_INET", "SOCK_DGRAM"),
        ("unix://{path}", "AF_UNIX", "SOCK_STREAM"),
        ("unix://@{path}", "AF_UNIX", "SOCK_STREAM"),
    ],
)
def test_who_holds_it_is_named(url: str, family: str, kind: str, tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    place = f"@{path}" if "@" in url else path
    command = [sys.executable, "-c", HOLDING, family, kind, place, "holding"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as other:
        try:
            assert other.stdout is not None
            at = url.format(port=other.stdout.readline().strip(), path=path)
            text = (
                f"cannot listen on {at}: the address is in use by another program: "
                f"{other.pid} ({sys.executable} -c"
            )
            assert refused(at).startswith(text)
            assert refused(at).count("(") == 1
        finally:
            os.killpg(other.pid, signal.SIGKILL)


def test_no_such_address() -> None:
    url = "tcp://192.0.2.1:9000"  # RFC 5737: an example
    assert refused(url) == f"cannot listen on {url}: 192.0.2.1 is not an address of this machine"


def test_no_such_host() -> None:
    assert refused("tcp://no-such-host.invalid:9000").startswith(
        "cannot listen on tcp://no-such-host.invalid:9000: "
    )


@pytest.mark.parametrize("host", ["a..b", "x" * 300])
def test_what_is_no_host_name(host: str) -> None:
    assert "cannot listen on" in refused(f"tcp://{host}:9000")


@pytest.mark.skipif(os.geteuid() != 0, reason="drops privileges in a child")
def test_not_permitted(tmp_path: Path) -> None:
    words = in_child_as_nobody("tcp://127.0.0.1:1", f"unix://{tmp_path}/x.sock")
    assert words == [
        "cannot listen on tcp://127.0.0.1:1: not permitted for this user (port 1)",
        f"cannot listen on unix://{tmp_path}/x.sock: not permitted for this user (directory of "
        f"{tmp_path}/x.sock)",
    ]


def in_child_as_nobody(*urls: str) -> list[str]:
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        lines = []
        for url in urls:
            try:
                bind(parse(url), backlog=8)
            except ConfigError as error:
                lines.append(str(error))
        os.write(writer, "\n".join(lines).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        lines = pipe.read().split("\n")
    os.wait()
    return lines


def test_a_directory_that_does_not_exist(tmp_path: Path) -> None:
    assert refused(f"unix://{tmp_path}/no/x.sock").endswith("No such file or directory")


# ---- files of unix sockets


def test_a_stale_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listener = bind(parse(f"unix://{path}"), backlog=8)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()


def test_a_live_one_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as alive, socket.socket(socket.AF_UNIX) as client:
        alive.bind(str(path))
        alive.listen(1)
        assert "in use by another program" in refused(f"unix://{path}")
        client.connect(str(path))


def test_a_live_one_with_a_full_queue_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as alive, socket.socket(socket.AF_UNIX) as client:
        alive.bind(str(path))
        alive.listen(0)
        client.connect(str(path))
        assert "in use by another program" in refused(f"unix://{path}")
        assert path.exists()


@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "datagram"])
def test_what_is_no_stale_socket_is_never_removed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.sock"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        if kind == "datagram":
            other.bind(str(path))
        assert "cannot listen on" in refused(f"unix://{path}")
        assert path.exists()


def test_the_file_goes_with_its_listener(tmp_path: Path, listeners: Listeners) -> None:
    path = tmp_path / "x.sock"
    open_listener(listeners, plan_of(f"unix://{path}"))
    assert path.is_socket()
    listeners.keep_only(set())
    assert not path.exists()


def test_the_file_of_somebody_else_stays(tmp_path: Path, listeners: Listeners) -> None:
    path = tmp_path / "x.sock"
    open_listener(listeners, plan_of(f"unix://{path}"))
    path.rename(tmp_path / "moved")
    path.write_text("theirs")
    listeners.keep_only(set())
    assert path.read_text() == "theirs"


def test_a_child_closes_its_copies_and_no_file(tmp_path: Path, listeners: Listeners) -> None:
    path = tmp_path / "x.sock"
    kept = open_listener(listeners, plan_of(f"unix://{path}", "tcp://127.0.0.1:0"))
    (other,) = (each for each in listeners.all() if each is not kept)
    listeners.close_in_child(kept.descriptors)
    assert path.is_socket()
    assert kept.sockets[0].fileno() >= 0
    assert other.sockets[0].fileno() == -1


# ---- the set that the arbiter holds


def test_a_listener_is_bound_once_and_kept(listeners: Listeners) -> None:
    plan = plan_of("tcp://127.0.0.1:0")
    first = open_listener(listeners, plan)
    assert open_listener(listeners, plan_of("tcp://127.0.0.1:0", count=3)) is first
    assert len(listeners) == 1


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
    assert listeners.keys() == {kept.key}
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
    assert listeners.all() == [held]
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


def test_a_connection_that_waits_survives_until_somebody_accepts(listeners: Listeners) -> None:
    """The queue belongs to the socket that the arbiter holds, not to any process."""
    listener = open_listener(listeners, plan_of("tcp://127.0.0.1:0"))
    with socket.create_connection(("127.0.0.1", listener.port), timeout=5) as client:
        client.sendall(b"hello")
        copy = socket.socket(fileno=os.dup(listener.sockets[0].fileno()))
        copy.close()
        descriptor, _ = listener.sockets[0]._accept()  # type: ignore[attr-defined]
        with socket.socket(fileno=descriptor) as accepted:
            assert accepted.recv(100) == b"hello"
