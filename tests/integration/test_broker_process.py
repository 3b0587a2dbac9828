"""The process of the local broker: when it runs, what it outlives, and what outlives it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import hiredis
import psutil
import pytest
from instance import Instance, is_alive, wait_for
from places import app

ECHO = app("echo")


def connect(instance: Instance) -> socket.socket:
    (path,) = instance.runtime.glob("*.broker")
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(10.0)
    client.connect(str(path))
    return client


def ask(client: socket.socket, *words: bytes) -> bytes:
    client.sendall(hiredis.pack_command(words))
    return client.recv(65536)


def hello(instance: Instance) -> socket.socket:
    """A client that is served."""
    client = connect(instance)
    assert ask(client, b"HELLO", b"me", b"1") == b"+OK\r\n"
    return client


def broker(instance: Instance) -> dict[str, Any]:
    found: dict[str, Any] = instance.status()["broker"]
    return found


def started(instance: Instance) -> psutil.Process:
    """Its process, once it is ready."""
    wait_for(lambda: broker(instance)["state"] == "ready", "a broker that is ready")
    return psutil.Process(broker(instance)["pid"])


def test_it_starts_when_somebody_connects(instance: Callable[..., Instance]) -> None:
    one = instance(ECHO)
    assert broker(one) == {"url": "local", "pid": None, "state": "idle"}
    assert not [each for each in one.children() if "broker" in each.name()]
    (path,) = one.runtime.glob("*.broker")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with closing(hello(one)) as client:
        process = started(one)
        assert process.cmdline()[0] == f"gworker: broker [{one.status()['name']}]"
        assert broker(one)["rss"] > 0
        assert f"the broker is ready (pid {process.pid})" in one.read_log()
        assert ask(client, b"PING") == b"+PONG\r\n"
    assert f"broker local  ready  pid {process.pid}" in one.run("status").stdout
    assert broker(one)["pid"] == process.pid, "it stays without clients"


def test_who_connects_while_it_is_dead_is_served(instance: Callable[..., Instance]) -> None:
    one = instance(ECHO)
    first, client = started_with_client(one)
    with closing(client):
        first.kill()
        assert client.recv(1) == b""
        with closing(hello(one)):
            second = started(one)
            assert second.pid != first.pid
            assert f"broker (pid {first.pid}) killed by signal 9 (SIGKILL), after" in one.read_log()
            (ended,) = one.status()["exits"]
            assert (ended["worker"], ended["pid"]) == ("broker", first.pid)
            second.kill()  # a second failure in a row waits for a moment, and refuses no client
            with closing(hello(one)):
                assert started(one).pid != second.pid
            assert "broker is started again in 0.1 s" in one.read_log()


def started_with_client(one: Instance) -> tuple[psutil.Process, socket.socket]:
    client = hello(one)
    return started(one), client


def test_one_that_hangs_is_replaced(instance: Callable[..., Instance]) -> None:
    one = instance(ECHO, "--timeout", "1")
    process, client = started_with_client(one)
    with closing(client):
        process.suspend()
        one.wait_log(f"broker (pid {process.pid}) hangs")
        with closing(hello(one)):
            assert started(one).pid != process.pid


def test_it_stays_over_a_reload_a_scale_and_an_upgrade(instance: Callable[..., Instance]) -> None:
    one = instance(ECHO)
    process, client = started_with_client(one)
    with closing(client):
        assert one.reload() == {"exit": 0}
        name = one.workers()[0]["worker"]
        assert one.run("scale", name, "2", "--name", one.status()["name"]).returncode == 0
        upgraded = one.run("upgrade")
        assert upgraded.returncode == 0, upgraded.stderr
        assert broker(one)["pid"] == process.pid
        assert ask(client, b"PING") == b"+PONG\r\n"
        process.kill()
        with closing(hello(one)):
            assert started(one).pid != process.pid


def test_its_socket_is_kept_over_an_upgrade(instance: Callable[..., Instance]) -> None:
    one = instance(ECHO)
    assert one.run("upgrade").returncode == 0
    with closing(hello(one)):
        assert started(one)


def test_it_leaves_last(instance: Callable[..., Instance]) -> None:
    one = instance(ECHO)
    process, client = started_with_client(one)
    with closing(client):
        worker = one.workers()[0]["pid"]
        assert one.run("stop").returncode == 0
        assert not is_alive(process)
        assert client.recv(1) == b""
    log = one.read_log()
    left = f"(pid {worker}) has left"
    assert 0 < log.index(left) < log.index(f"broker (pid {process.pid}) has left")
    assert not list(one.runtime.glob("*"))


def test_it_serves_on_when_the_arbiter_is_killed(instance: Callable[..., Instance]) -> None:
    one = instance(ECHO)
    process, client = started_with_client(one)
    with closing(client):
        one.signal(signal.SIGKILL)
        one.wait_log("the arbiter is gone: the broker ends with its last client")
        assert ask(client, b"PING") == b"+PONG\r\n"
    wait_for(lambda: not is_alive(process), "the end of the broker")


def test_a_start_after_a_killed_arbiter_has_a_broker_of_its_own(
    instance: Callable[..., Instance],
) -> None:
    one = instance(ECHO)
    process, client = started_with_client(one)
    with closing(client):
        one.signal(signal.SIGKILL)
        one.wait_log("the arbiter is gone: the broker ends with its last client")
        assert one.process is not None
        one.process.communicate()
        one.log.unlink()
        one.start()
        with closing(hello(one)):
            assert started(one).pid != process.pid
            assert ask(client, b"PING") == b"+PONG\r\n"


@pytest.mark.timeout(90)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_mode_and_group(instance: Callable[..., Instance]) -> None:
    one = instance(ECHO, "--broker-mode", "600", "--broker-group", "nogroup")
    (path,) = one.runtime.glob("*.broker")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.group() == "nogroup"


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv(1)"
)
def test_another_user_reaches_it_in_a_directory_that_is_closed_to_that(open_path: Path) -> None:
    one = Instance(open_path / "instance", app("reaches_broker"))
    one.prefix = ["setpriv", "--securebits=+no_setuid_fixup"]  # see test_privileges
    try:
        one.start("--user", "nobody")
        assert stat.S_IMODE(one.runtime.stat().st_mode) == 0o700
        (path,) = one.runtime.glob("*.broker")
        assert path.owner() == "nobody"
        greeting = hiredis.pack_command((b"HELLO", b"me", b"1"))
        assert one.ask("reaches", greeting) == b"+OK\r\n"
        assert started(one).username() == "nobody"
        path.unlink()
        started(one).kill()
        assert one.ask("reaches", greeting) == b"+OK\r\n", "also when the file is gone"
    finally:
        one.kill()


def test_messages_of_worker_processes_go_through_it(instance: Callable[..., Instance]) -> None:
    one = instance(app("counts_together"), "-w", "2")
    counts = [int(one.ask("counts", b"x")) for _ in range(3)]
    assert counts == [1, 2, 3]
    process = started(one)
    for path in one.runtime.glob("*.broker"):
        path.unlink()
    process.kill()
    wait_for(lambda: one.ask("counts", b"x") == b"1", "a count that begins anew")


def test_a_daemon_has_one_too(instance: Callable[..., Instance]) -> None:
    one = instance(ECHO)
    one.kill()
    done = one.run("app", "--daemon")
    assert done.returncode == 0, done.stderr
    with closing(hello(one)):
        assert started(one)
    assert one.run("stop").returncode == 0
