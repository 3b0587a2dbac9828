"""Commands that look: status, connections, list; their fields, and what they say about a process
that hangs."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import places
import psutil
import pytest
from instance import Instance, wait_for

pytestmark = pytest.mark.timeout(180)

APP = places.app("commanded")

ROW = {
    "worker": str, "id": int, "pid": int, "listen": str, "state": str, "generation": int,
    "uptime": float, "rss": int,
    "uss": int, "cpu_percent": float, "connections": int, "requests": int,
    "requests_per_second": float,
    "bytes_read": int, "bytes_written": int, "send_queue": int, "send_failures": int,
    "exceptions": int, "timers": int,
    "loop_lag_ms": float, "messages": type(None),
}  # fmt: skip
CONNECTION = {
    "pid": int, "worker": str, "id": int, "transport": str, "protocol": str, "local": str,
    "remote": str,
    "recv_queue": int, "send_queue": int, "bytes_read": int, "bytes_written": int, "status": str,
    "age": int,
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    directory = tmp_path_factory.mktemp("commands") / "instance"
    one = Instance(directory, APP.replace("DIRECTORY", str(directory)))
    try:
        one.start("--name", "shop")
        yield one
    finally:
        one.kill()


def check(row: dict[str, Any], fields: dict[str, type]) -> None:
    assert set(row) == set(fields)
    for name, kind in fields.items():
        assert isinstance(row[name], kind) or (kind is float and isinstance(row[name], int)), (
            name,
            row[name],
        )


def test_status_json_is_exactly_what_is_documented(shared: Instance) -> None:
    done = shared.run("status", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    status = json.loads(done.stdout)
    assert set(status) == {
        "name", "version", "core", "state", "generation", "arbiter", "workers", "totals", "exits",
        "last_reload", "broker",
    }  # fmt: skip
    assert (status["name"], status["state"], status["generation"]) == ("shop", "running", 1)
    assert set(status["arbiter"]) == {"pid", "uptime", "rss", "cpu_percent"}
    assert status["arbiter"]["pid"] == shared.pid
    rows = {f"{row['worker']}#{row['id']}": row for row in status["workers"]}
    assert list(rows) == ["text#0", "text#1", "web#0", "box#0", "drum#0"]
    drum = rows.pop("drum#0")
    assert drum["listen"] is None
    assert drum["timers"] == 1
    for row in rows.values():
        check(row, ROW)
        assert row["state"] == "ready"
        assert row["rss"] > row["uss"] > 1024 * 1024
    assert rows["text#0"]["listen"] == rows["text#1"]["listen"]
    assert rows["web#0"]["listen"].startswith("http://127.0.0.1:")
    assert rows["box#0"]["listen"] == f"text://{shared.directory}/x.sock"
    assert {child.pid for child in shared.children()} == {
        row["pid"] for row in (*rows.values(), drum)
    }


def test_the_table_is_for_people(shared: Instance) -> None:
    done = shared.run("status", "shop")
    assert done.returncode == 0
    for word in ("shop", "text", "web", "box", "drum", str(shared.pid)):
        assert word in done.stdout


def test_list_names_the_instance(shared: Instance) -> None:
    done = shared.run("list")
    assert done.returncode == 0
    assert "shop" in done.stdout
    assert str(shared.pid) in done.stdout


def test_connections_are_what_the_kernel_has(shared: Instance) -> None:
    opened = [shared.connect("text") for _ in range(5)]
    unix = socket.socket(socket.AF_UNIX)
    unix.connect(str(shared.directory / "x.sock"))
    try:
        for each in (*opened, unix):
            each.sendall(b"who\n")
            each.recv(100)
        done = shared.run("connections", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        rows = json.loads(done.stdout)
        for row in rows:
            check(row, CONNECTION)
        assert len(rows) == 6
        assert {row["remote"] for row in rows if row["worker"] == "text"} == {
            f"127.0.0.1:{each.getsockname()[1]}" for each in opened
        }
        row = rows[0]
        assert (row["transport"], row["protocol"], row["status"]) == ("tcp", "text", "established")
        assert (row["bytes_read"], row["recv_queue"], row["send_queue"]) == (4, 0, 0)
        (box,) = (row for row in rows if row["worker"] == "box")
        assert box["transport"] == "unix"

        kernel = {
            (connection.pid, connection.raddr.port)
            for connection in psutil.net_connections("tcp4")
            if connection.status == "ESTABLISHED" and connection.raddr
        }
        for row in rows:
            if row["worker"] == "text":
                assert (row["pid"], int(row["remote"].rpartition(":")[2])) in kernel
        counted = {row["pid"]: row["connections"] for row in shared.workers()}
        for pid, count in counted.items():
            assert count == sum(row["pid"] == pid for row in rows)
        assert shared.status()["totals"]["connections"] == 6

        only = json.loads(
            shared.run("connections", "--json", "--worker", "text", "--limit", "3").stdout
        )
        assert len(only) == 3
        assert {row["worker"] for row in only} == {"text"}
        for reply in shared.ask_arbiter("connections", worker="text", limit=1):
            for file in reply.fds:  # type: ignore[attr-defined]
                with open(file, "rb") as listed:
                    listed.seek(0)
                    assert len(listed.readlines()) <= 1, (
                        "a process makes no more rows than are asked for"
                    )
        assert shared.run("connections").returncode == 0
        unknown = shared.run("connections", "--worker", "nothing")
        assert unknown.returncode == 1
        assert "there is no Worker 'nothing'; there are text, web, box, drum" in unknown.stderr
    finally:
        for each in (*opened, unix):
            each.close()
    wait_for(lambda: shared.status()["totals"]["connections"] == 0, "closed")


COUNTERS = ("requests", "bytes_read", "bytes_written", "send_failures", "exceptions")


def totals(one: Instance) -> list[int]:
    found = one.status()["totals"]
    return [found[name] for name in COUNTERS]


def test_totals_never_go_back(shared: Instance) -> None:
    before = totals(shared)
    for _ in range(5):
        pid = int(shared.ask("text", b"who\n"))
    assert shared.ask("text", b"raise\n") == b""
    wait_for(lambda: totals(shared)[-1] == before[-1] + 1, "the exception is counted")
    after = totals(shared)
    assert after[0] == before[0] + 6
    assert after[1] == before[1] + 5 * 4 + 6
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: pid not in [row["pid"] for row in shared.workers()], "dead")
    assert totals(shared) == after
    wait_for(lambda: {row["state"] for row in shared.workers()} == {"ready"}, "replaced")
    assert totals(shared) == after


def test_a_process_that_hangs_is_busy_and_named_as_missing(shared: Instance) -> None:
    with shared.connect("text") as connection:
        connection.sendall(b"spin\n")
        wait_for(lambda: "busy" in [row["state"] for row in shared.workers()], "it hangs")
        (busy,) = (row for row in shared.workers() if row["state"] == "busy")
        check(busy, ROW)
        assert busy["loop_lag_ms"] > 1000
        done = shared.run("connections", "--json")
        assert done.returncode == 0
        assert done.stderr == (
            f"gworker: note: no answer from process {busy['pid']}: its connections are not listed\n"
        )
        assert json.loads(done.stdout) == []
        (shared.directory / "enough").touch()
        assert connection.recv(100) == f"{busy['pid']}\n".encode()
        wait_for(lambda: {row["state"] for row in shared.workers()} == {"ready"}, "it is back")
    Path(shared.directory / "enough").unlink()


def test_two_instances_beside_each_other(shared: Instance, tmp_path: Path) -> None:
    other = Instance(tmp_path / "other", "from gworker import Worker\ndrum = Worker()")
    other.runtime = shared.runtime
    try:
        assert other.run("app", "--name", "second", "-d").returncode == 0
        ambiguous = shared.run("status")
        assert ambiguous.returncode == 1
        assert "several instances run, choose one with --name: second (pid " in ambiguous.stderr
        assert other.run("stop", "--name", "second").returncode == 0
    finally:
        for process in other.processes():
            process.kill()
    assert shared.run("status", "--name", "second").returncode == 3
