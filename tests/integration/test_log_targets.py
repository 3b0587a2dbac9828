"""Wherever the log goes: what the event loop does for itself goes on.

Each target is one instance, without any option for its log. Each test is one thing that goes wrong
there, so one cell of the matrix. The arbiter is killed last.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import places
import psutil
import pytest
from instance import Instance, wait_for
from pki import Pki
from template import Command

from gworker.errors import GworkerError

pytestmark = pytest.mark.timeout(180)

APP = places.APPS / "log_targets.py"
CLIENTS = 8
NO_HANDSHAKES = (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x02xx", b"\x15", b"")
PATIENCE = 20.0
"""Seconds; a process that misses one of its deadlines is far beyond them."""


def null(stack: ExitStack, directory: Path) -> int:
    return stack.enter_context(open(os.devnull, "wb")).fileno()


def file(stack: ExitStack, directory: Path) -> int:
    return stack.enter_context(open(directory / "stderr", "ab")).fileno()


def unix_socket(stack: ExitStack, directory: Path) -> int:
    """What systemd gives a service as stderr."""
    ours, theirs = socket.socketpair()
    stack.enter_context(ours)
    return stack.enter_context(theirs).fileno()


def full_socket(stack: ExitStack, directory: Path) -> int:
    descriptor = unix_socket(stack, directory)
    fill(descriptor)
    return descriptor


def full_pipe(stack: ExitStack, directory: Path) -> int:
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    stack.callback(os.close, writer)
    fill(writer)
    return writer


def fill(descriptor: int) -> None:
    """Write until no more is taken."""
    os.set_blocking(descriptor, False)
    for size in (4096, 1):
        try:
            while True:
                os.write(descriptor, b"x" * size)
        except BlockingIOError:
            continue
    os.set_blocking(descriptor, True)


def broken_pipe(stack: ExitStack, directory: Path) -> int:
    """What reads it has ended."""
    reader, writer = os.pipe()
    os.close(reader)
    stack.callback(os.close, writer)
    return writer


def full_disk(stack: ExitStack, directory: Path) -> int:
    return stack.enter_context(open("/dev/full", "wb", buffering=0)).fileno()


def closed(stack: ExitStack, directory: Path) -> None:
    return None


def broken_handler(stack: ExitStack, directory: Path) -> int:
    """A handler of the application: whatever is logged, raises."""
    stack.enter_context(pytest.MonkeyPatch.context()).setenv("BROKEN_HANDLER", "1")
    return file(stack, directory)


TARGETS: dict[str, Callable[[ExitStack, Path], int | None]] = {
    "null": null,
    "file": file,
    "socket": unix_socket,
    "full-socket": full_socket,
    "full-pipe": full_pipe,
    "broken-pipe": broken_pipe,
    "full-disk": full_disk,
    "closed": closed,
    "broken-handler": broken_handler,
}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    pki = Pki(tmp_path_factory.mktemp("pki"))
    pki.issue("server", "127.0.0.1", "localhost")
    return pki


@pytest.fixture(scope="module", params=[*TARGETS, "daemon"])
def one(
    request: pytest.FixtureRequest, pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Instance]:
    """An instance whose stderr is the target, and so its log; or a daemon, which has a log of its
    own."""
    instance = Instance(tmp_path_factory.mktemp("app") / "instance", APP.read_text())
    for name in ("server.pem", "server.key"):
        (instance.directory / name).write_bytes((pki.directory / name).read_bytes())
    with ExitStack() as stack:
        stack.callback(instance.kill)
        if request.param == "daemon":
            assert instance.run("app", "--daemon").returncode == 0
        else:
            start(instance, TARGETS[request.param](stack, instance.directory))
        yield instance


def start(one: Instance, target: int | None) -> None:
    if target is None:
        shell = ["sh", "-c", 'exec "$0" "$@" 2>&-', *one.command("app")]
        one.process = subprocess.Popen(shell, cwd=one.directory, text=True)
    else:
        one.process = Command(one.arguments("app"), one.directory, target)
    wait_for(lambda: is_running(one), "the instance runs")


def is_running(one: Instance) -> bool:
    assert one.process is not None
    assert one.process.poll() is None, "it has ended"
    try:
        return bool(one.status()["state"] == "running")
    except (GworkerError, IndexError):
        return False  # it has no control socket yet


def descriptors(one: Instance, name: str) -> int:
    return psutil.Process(one.workers(name)[0]["pid"]).num_fds()


def test_failed_tls_handshakes_leave_nothing_behind(one: Instance, pki: Pki) -> None:
    before = descriptors(one, "secure")
    for number in range(CLIENTS):
        with one.connect("secure") as client:
            client.sendall(NO_HANDSHAKES[number % len(NO_HANDSHAKES)])
    wait_for(lambda: descriptors(one, "secure") == before, "all of them are closed", PATIENCE)
    with pki.client().wrap_socket(one.connect("secure"), server_hostname="localhost") as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"


def test_clients_wait_while_a_process_is_out_of_descriptors(one: Instance) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(one.connect("plain"))
        first.sendall(b"take\n")
        assert first.recv(100) == b"take\n"
        waiting = [stack.enter_context(one.connect("plain")) for _ in range(CLIENTS)]
        for client in waiting:
            client.sendall(b"hello\n")
        first.sendall(b"hello\n")
        assert first.recv(100) == b"hello\n", "those that are there are served"
        first.sendall(b"free\n")
        assert first.recv(100) == b"free\n"
        assert [client.recv(100) for client in waiting] == [b"hello\n"] * CLIENTS


def test_members_of_a_group_have_a_broker_again_after_a_kill(one: Instance) -> None:
    with one.connect("plain") as member:
        member.sendall(b"join\n")
        assert member.recv(100) == b"join\n"
        for _ in range(2):
            wait_for(lambda: publishes(member), "a message to the group", PATIENCE)
            psutil.Process(one.status()["broker"]["pid"]).kill()
        wait_for(lambda: publishes(member), "a message to the group", PATIENCE)


def publishes(member: socket.socket) -> bool:
    """False: the broker is down."""
    member.sendall(b"publish\n")
    heard = b""
    while not heard.endswith(b"publish\n"):
        heard += member.recv(100)
    return b"published\n" in heard


def test_a_reload_replaces_every_process(one: Instance) -> None:
    before = {row["pid"] for row in one.workers()}
    assert one.reload()["exit"] == 0

    def have_left() -> bool:
        return not before & {row["pid"] for row in one.workers()}

    wait_for(have_left, "the old processes have left", PATIENCE)
    assert one.ask("plain", b"hello\n") == b"hello\n"


def test_nothing_outlives_a_killed_arbiter(one: Instance) -> None:
    ports = [one.port(name) for name in ("plain", "secure")]
    one.signal(signal.SIGKILL)
    wait_for(lambda: not one.processes(), "every process has left", PATIENCE)
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()
