"""Reloads over real processes: successors first, no client refused, none reset, and a broken one
changes nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import places
import pytest
from instance import DEADLINE, Instance, wait_for

pytestmark = pytest.mark.timeout(180)

APP = places.app("reloaded")


def app(one: Instance, version: str, more: str = "") -> str:
    text = APP.replace("DIRECTORY", str(one.directory)).replace("VERSION", version)
    return text.replace("# MORE", more)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    one = Instance(tmp_path_factory.mktemp("reload") / "instance", "")
    one.write(app(one, "v1"))
    try:
        one.start("--graceful-timeout", "5")
        yield one
    finally:
        one.kill()


def settled(one: Instance) -> dict[str, Any]:
    """The status once no reload goes on and no process boots or retires."""

    def look() -> dict[str, Any] | None:
        status = one.status()
        rest = status["state"] == "running" and {row["state"] for row in status["workers"]} == {
            "ready"
        }
        return status if rest else None

    status = wait_for(look, "a steady state")
    assert status is not None
    return status


def serving(one: Instance) -> dict[str, int]:
    return {f"{row['worker']}#{row['id']}": row["pid"] for row in settled(one)["workers"]}


def test_a_reload_replaces_all_and_tells_each_step(shared: Instance) -> None:
    before, ports = serving(shared), (shared.port("tcp"), shared.port("own"))
    generation = shared.status()["generation"]
    shared.write(app(shared, "v2"))
    done = shared.run("reload", "app")
    assert (done.returncode, done.stderr) == (0, "")
    steps = done.stdout.splitlines()
    assert steps[0] == "loading the target"
    assert steps[1] == "tcp × 2, unix × 1, own × 1, kept × 1"
    assert steps[-1].startswith(f"generation {generation + 1} serves after ")
    assert any(step.startswith("tcp#1 is ready (pid ") for step in steps)
    assert "kept#0 is not reloadable: told, and kept" in done.stdout
    assert shared.ask("tcp", b"?") == b"v2", "visible when the command returns"
    after = serving(shared)
    assert set(after) == set(before)
    assert {label for label in after if after[label] == before[label]} == {"kept#0"}
    assert (shared.port("tcp"), shared.port("own")) == ports
    last = shared.status()["last_reload"]
    assert (last["ok"], last["error"]) == (True, None)
    assert shared.status()["exits"] == []
    wait_for((shared.directory / "told").exists, "the kept one was told")
    assert (shared.directory / "told").read_text() == "v1\n", (
        "it has the code that it was started with"
    )


def test_the_unix_socket_stays_the_same_file(shared: Instance) -> None:
    path = shared.directory / "x.sock"
    before = path.stat()
    shared.write(app(shared, "unix"))
    assert shared.reload()["exit"] == 0
    assert os.path.samestat(before, path.stat())
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE)
        client.connect(str(path))
        client.sendall(b"?\n")
        assert client.recv(100) == b"unix\n"


LISTENING = """
    import os
    from gworker import Worker

    many = Worker("text://127.0.0.1:0", name="many", count=2, protocol="text")
    many.on_message = lambda c, line: c.send("VERSION " + c.local_address)
    many.on_worker_start = lambda worker: worker.listen("unix://" + os.path.abspath(PATH))
"""


def line_from(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE)
        client.connect(str(path))
        client.sendall(b"?\n")
        return client.recv(200).decode().strip()


def test_processes_that_open_a_unix_socket_each(instance: Callable[..., Instance]) -> None:
    """Each has a path of its own, which goes with it."""
    source = LISTENING.replace("PATH", 'f"{os.getpid()}.sock"')
    one = instance(source)
    before = set(one.directory.glob("*.sock"))
    assert {line_from(path) for path in before} == {f"VERSION {path}" for path in before}
    one.write(source.replace("VERSION", "v2"))
    assert one.reload()["exit"] == 0
    after = wait_for(
        lambda: (found := set(one.directory.glob("*.sock"))).isdisjoint(before) and found,
        "the predecessors have removed their files",
    )
    assert {line_from(path) for path in after} == {f"v2 {path}" for path in after}
    one.signal(signal.SIGTERM)
    assert one.wait_exit() == 0
    assert not list(one.directory.glob("*.sock"))


def test_a_path_in_use_refuses_the_successor_and_leaves_the_predecessor(
    instance: Callable[..., Instance],
) -> None:
    source = LISTENING.replace("count=2", "count=1").replace("PATH", '"more.sock"')
    one = instance(source)
    path = one.directory / "more.sock"
    before = path.stat()
    one.write(source.replace("VERSION", "v2"))
    assert one.reload()["exit"] == 1
    assert re.search(
        rf"cannot listen on unix://{path}: the address is in use by another program: \d+ \(.*\); "
        r"each process needs a path of its own, as with os\.getpid\(\) in it",
        one.log.read_text(),
    )
    assert line_from(path) == f"VERSION {path}"
    assert os.path.samestat(before, path.stat())


def test_a_process_cannot_open_a_path_twice(instance: Callable[..., Instance]) -> None:
    one = instance(places.app("opens_twice"))
    path = one.directory / "more.sock"
    refused = f"cannot listen on unix://{path}: this process listens on it already\n"
    assert (one.directory / "refused").read_text() == refused
    assert line_from(path) == str(path)


BROKEN = {
    "1 / 0": "ZeroDivisionError",
    "import sys; sys.exit(3)": "called sys.exit(3)",
    "Worker('tcp://192.0.2.1:80', name='far')": "192.0.2.1 is not an address of this machine",
    "Worker(name='x'), Worker(name='x')": "two Workers are named 'x'",
    "tcp.on_worker_start = lambda worker: 1 / 0": "tcp#0: ZeroDivisionError",
    "tcp.on_worker_start = lambda worker: os._exit(3)": "tcp#0: exited 3",
}


@pytest.mark.parametrize("more", BROKEN)
def test_broken_code_is_refused_and_the_old_goes_on(shared: Instance, more: str) -> None:
    before, status = serving(shared), settled(shared)
    answer, exits = shared.ask("tcp", b"?"), len(status["exits"])
    shared.write(app(shared, "never", more))
    done = shared.run("reload")
    assert done.returncode == 1
    assert BROKEN[more] in done.stderr
    assert ("Traceback" in done.stderr) == ("1 / 0" in more or "sys.exit" in more)
    assert done.stderr.splitlines()[-1].startswith("gworker: error: ")
    assert serving(shared) == before
    assert shared.ask("tcp", b"?") == answer
    after = settled(shared)
    assert after["generation"] == status["generation"]
    assert after["last_reload"]["ok"] is False
    assert BROKEN[more] in after["last_reload"]["error"]
    assert len(after["exits"]) - exits == ("on_worker_start" in more)


def test_workers_and_addresses_come_and_go(shared: Instance) -> None:
    more = (
        'added = Worker("text://127.0.0.1:0", count=2, on_message=lambda connection, line: '
        "connection.send(line))"
    )
    shared.write(app(shared, "more", more))
    assert shared.reload()["exit"] == 0
    assert shared.ask("added", b"abc\n") == b"abc\n"
    port = shared.port("added")
    assert len(shared.workers("added")) == 2
    shared.write(app(shared, "less"))
    assert shared.reload()["exit"] == 0
    settled(shared)
    assert shared.workers("added") == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
    assert shared.ask("tcp", b"?") == b"less"


def test_counts_and_schemes_change(shared: Instance) -> None:
    port = shared.port("own")
    changed = app(shared, "changed").replace("count=2", "count=1")
    changed = changed.replace(
        '"tcp://127.0.0.1:0", reuse_port=True', '"text://127.0.0.1:0", reuse_port=True, count=2'
    )
    shared.write(changed)
    assert shared.reload()["exit"] == 0
    assert set(serving(shared)) == {"tcp#0", "own#0", "own#1", "unix#0", "kept#0"}
    assert shared.port("own") == port, "another protocol on the same socket"
    assert shared.ask("own", b"line\n") == b"changed\n"
    shared.write(app(shared, "back"))
    assert shared.reload()["exit"] == 0
    assert set(serving(shared)) == {"tcp#0", "tcp#1", "own#0", "unix#0", "kept#0"}


def wait_generation(one: Instance, generation: int) -> None:
    def reached() -> bool:
        return bool(settled(one)["generation"] >= generation)

    wait_for(reached, f"generation {generation}")


def test_no_wait_returns_at_once_and_hup_says_nothing(shared: Instance) -> None:
    shared.write(app(shared, "waited"))
    generation = settled(shared)["generation"]
    assert shared.run("reload", "--no-wait").stdout == ""
    wait_generation(shared, generation + 1)
    shared.signal(signal.SIGHUP)
    wait_generation(shared, generation + 2)


def test_what_was_scaled_is_remembered(shared: Instance) -> None:
    shared.write(app(shared, "scaled"))
    assert shared.run("scale", "tcp", "3").returncode == 0
    assert {"tcp#2"} <= set(serving(shared))
    assert shared.reload()["exit"] == 0
    assert {"tcp#2"} <= set(serving(shared))
    assert shared.run("scale", "tcp", "2").returncode == 0
    wait_for(lambda: "tcp#2" not in serving(shared), "gone")
    assert settled(shared)["exits"] == [
        row for row in settled(shared)["exits"] if row["reason"] != "exited 0"
    ]


def test_a_storm_of_hups_ends_in_a_steady_state(shared: Instance) -> None:
    generation = settled(shared)["generation"]
    count = len(settled(shared)["workers"])
    shared.write(app(shared, "stormed"))
    for _ in range(50):
        shared.signal(signal.SIGHUP)
    wait_generation(shared, generation + 1)
    after = settled(shared)
    assert after["generation"] - generation <= 3, "one, and one more for all the others"
    assert after["last_reload"]["ok"] is True
    assert len(after["workers"]) == len(shared.children()) == count
    assert shared.ask("tcp", b"?") == b"stormed"


@contextmanager
def load(kind: str, port: int) -> Iterator[Callable[[], dict[str, Any]]]:
    """Short connections without a pause; calling what is yielded ends them and tells how it
    went."""
    client = subprocess.Popen(
        [*places.program("load"), kind, "127.0.0.1", str(port), "1"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert client.stdout is not None
    client.stdout.readline()

    def end() -> dict[str, Any]:
        output, _ = client.communicate(timeout=DEADLINE)
        result: dict[str, Any] = json.loads(output)
        return result

    try:
        yield end
    finally:
        client.kill()
        client.communicate()


def test_five_reloads_under_load_without_a_connection_lost(
    instance: Callable[..., Instance],
) -> None:
    one = instance(places.app("versions"))
    source = (one.directory / "app.py").read_text()
    with load("tcp", one.port("tcp")) as end_tcp, load("http", one.port("web")) as end_http:
        for number in range(1, 6):
            one.write(source.replace("v0", f"v{number}"))
            assert one.reload()["exit"] == 0
        results = {"tcp": end_tcp(), "http": end_http()}
    for result in results.values():
        assert result["faults"] == {}, results
        assert result["ok"] > 50
        assert result["said"] == [f"v{number}" for number in range(6)]
    assert settled(one)["exits"] == []


def test_what_the_old_generation_has_begun_it_finishes(instance: Callable[..., Instance]) -> None:
    one = instance(places.app("waits_until_done"))
    with one.connect("text") as connection:
        connection.sendall(b"wait\n")
        wait_for(lambda: one.workers()[0]["requests"] == 1, "the handler runs")
        one.write((one.directory / "app.py").read_text().replace('"old"', '"new"'))
        assert one.reload()["exit"] == 0
        assert [row["state"] for row in one.workers()] == ["ready", "retiring"]
        assert one.ask("text", b"0\n") == b"new\n"
        (one.directory / "done").touch()
        assert connection.recv(100) == b"old\n"
        connection.sendall(b"0\n")
        assert connection.recv(100) == b"new\n", "it has followed when its handler had ended"
    assert settled(one)["exits"] == []


def test_a_graceful_timeout_ends_a_process_that_does_not_leave(
    instance: Callable[..., Instance],
) -> None:
    one = instance(
        places.app("hangs")
    ,
        "--graceful-timeout", "1",
    )  # fmt: skip
    with one.connect("text") as connection:
        connection.sendall(b"go\n")
        old = one.workers()[0]["pid"]
        wait_for(lambda: one.workers()[0]["state"] == "busy", "it hangs")
        begin = time.monotonic()
        assert one.reload()["exit"] == 0
        after = settled(one)
        assert time.monotonic() - begin < 20
        assert [row["pid"] for row in after["workers"]] != [old]
        (row,) = after["exits"]
        assert (row["pid"], row["reason"]) == (
            old,
            "did not leave within 1 s: killed by signal 9 (SIGKILL)",
        )


def test_a_stop_hurries_what_a_reload_has_left_to_end(instance: Callable[..., Instance]) -> None:
    one = instance(places.app("stopped_in_a_reload"))
    with one.connect("lines") as peer:
        peer.sendall(b"a line\nand a part")
        assert peer.recv(100) == b"a line\n"
        assert one.run("reload").returncode == 0
        began = time.monotonic()
        assert one.run("stop").returncode == 0
        assert time.monotonic() - began < 20, (
            "neither the silence of a reload nor the graceful timeout"
        )
        assert peer.recv(100) == b""
