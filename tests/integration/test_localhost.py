"""A Worker at localhost is reached over both families, also after a reload and an upgrade."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import places
import pytest
from instance import DEADLINE
from serving import Served, serve

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not os.path.exists("/proc/net/if_inet6"), reason="this machine has no IPv6"),
]

APP = places.app("localhost")

HOSTS = ("127.0.0.1", "::1")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, APP) as one:
        yield one


def ask(host: str, port: int) -> list[str]:
    with socket.create_connection((host, port), timeout=DEADLINE) as client:
        client.sendall(b"who\n")
        return client.makefile().readline().split()


def check_both(app: Served, name: str) -> None:
    pids = {row["pid"] for row in app.workers("lines")}
    for host in HOSTS:
        local, remote, pid = ask(host, app.port(name))
        assert (local, remote) == (host, host)
        assert int(pid) in pids


def test_both_families_reach_it(app: Served) -> None:
    check_both(app, "lines")
    assert app.listen["lines"] == f"text://localhost:{app.port('lines')}"


def test_both_processes_share_what_comes_over_each(app: Served) -> None:
    for host in HOSTS:
        clients = [
            socket.create_connection((host, app.port("lines")), timeout=DEADLINE) for _ in range(60)
        ]
        pids = set()
        for client in clients:
            client.sendall(b"who\n")
            pids.add(client.makefile().readline().split()[2])
        assert len(pids) == 2
        for client in clients:
            client.close()


def test_datagrams_of_both_families(app: Served) -> None:
    for host, family in zip(HOSTS, (socket.AF_INET, socket.AF_INET6), strict=True):
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.settimeout(DEADLINE)
            client.sendto(b"who", (host, app.port("datagrams")))
            assert client.recv(100).split()[0] == host.encode()


def test_a_process_opens_both_as_well(app: Served) -> None:
    url = (app.directory / "opened").read_text()
    assert url.startswith("text://localhost:")
    for host in HOSTS:
        assert ask(host, int(url.rpartition(":")[2]))[0] == host


def test_a_reload_and_an_upgrade_keep_both(app: Served) -> None:
    pid = app.pid
    assert app.reload()["exit"] == 0
    check_both(app, "lines")
    assert app.run("upgrade").returncode == 0
    assert app.pid == pid
    check_both(app, "lines")
    assert app.reload()["exit"] == 0
    check_both(app, "lines")
