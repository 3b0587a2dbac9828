"""Binding: real sockets, and the errors that say why not."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import places
import pytest

from gworker.errors import ConfigError
from gworker.system.address import parse
from gworker.system.bind import bind, bound_address


def refused(url: str) -> str:
    with pytest.raises(ConfigError) as caught:
        bind(parse(url), backlog=8).close()
    return str(caught.value)


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:0", "tcp://[::1]:0", "http://:0"])
def test_a_stream_listener_listens(url: str) -> None:
    listener = bind(parse(url), backlog=8)
    address = bound_address(listener, parse(url))
    assert address.port > 0
    assert not listener.gettimeout()
    host = address.host if address.host != "0.0.0.0" else "127.0.0.1"
    socket.create_connection((host, address.port), timeout=5).close()
    listener.close()


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


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_in_use(scheme: str) -> None:
    first = bind(parse(f"{scheme}://127.0.0.1:0"), backlog=8)
    url = f"{scheme}://127.0.0.1:{first.getsockname()[1]}"
    text = refused(url)
    assert text.startswith(
        f"cannot listen on {url}: the address is in use by another program: {os.getpid()} ("
    )
    first.close()


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


@pytest.mark.skipif(os.geteuid() != 0, reason="drops privileges in a child")
def test_not_permitted(tmp_path: Path) -> None:
    words = in_child_as_nobody("tcp://127.0.0.1:1", f"unix://{tmp_path}/x.sock")
    assert words == [
        "cannot listen on tcp://127.0.0.1:1: not permitted for this user (port 1)",
        f"cannot listen on unix://{tmp_path}/x.sock: not permitted for this user (directory of "
        f"{tmp_path}/x.sock)",
    ]


def test_a_directory_that_does_not_exist(tmp_path: Path) -> None:
    assert refused(f"unix://{tmp_path}/no/x.sock").endswith("No such file or directory")


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


HOLDING = places.program("holds_address")


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
def test_the_program_that_holds_it_is_named(
    url: str, family: str, kind: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "sock")
    place = f"@{path}" if "@" in url else path
    command = [*HOLDING, family, kind, place, "holding"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as other:
        try:
            assert other.stdout is not None
            at = url.format(port=other.stdout.readline().strip(), path=path)
            text = (
                f"cannot listen on {at}: the address is in use by another program: "
                f"{other.pid} ({sys.executable} "
            )
            assert refused(at).startswith(text)
            assert refused(at).count("(") == 1
        finally:
            os.killpg(other.pid, signal.SIGKILL)
