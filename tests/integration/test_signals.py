"""Signals to the arbiter and to worker processes, and the commands that mean the same."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import places
import psutil
import pytest
from instance import Instance, wait_for

pytestmark = pytest.mark.timeout(180)

APPS = places.APPS

APP = places.app("signals")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    one = Instance(tmp_path_factory.mktemp("signals") / "instance", APP)
    try:
        one.start()
        yield one
    finally:
        one.kill()


def settled(one: Instance) -> dict[str, int]:
    """Label and pid of each process, once all are ready."""

    def look() -> dict[str, int] | None:
        status = one.status()
        rest = status["state"] == "running" and {row["state"] for row in status["workers"]} == {
            "ready"
        }
        return (
            {f"{row['worker']}#{row['id']}": row["pid"] for row in status["workers"]}
            if rest
            else None
        )

    found = wait_for(look, "a steady state")
    assert found is not None
    return found


def test_ttin_and_ttou(shared: Instance) -> None:
    before = settled(shared)
    shared.signal(signal.SIGTTIN)
    wait_for(lambda: len(settled(shared)) == 5, "one more of each")
    assert {"text#2", "other#1"} == set(settled(shared)) - set(before)
    shared.signal(signal.SIGTTOU)
    wait_for(lambda: settled(shared) == before, "the same as before")
    shared.signal(signal.SIGTTOU)
    wait_for(lambda: set(settled(shared)) == {"text#0", "other#0"}, "one of each")
    shared.wait_log("other: 0 processes; expected 1 to 1024")
    shared.signal(signal.SIGTTIN)
    wait_for(lambda: len(settled(shared)) == 4, "and back")
    assert shared.run("scale", "other", "1").returncode == 0
    wait_for(lambda: set(settled(shared)) == set(before), "as before")
    assert shared.status()["exits"] == []


def test_scale(shared: Instance) -> None:
    done = shared.run("scale", "app", "other", "2")
    assert (done.returncode, done.stdout) == (0, "other: 2 processes\n")
    wait_for(lambda: "other#1" in settled(shared), "a second")
    assert shared.run("scale", "other", "1").returncode == 0
    wait_for(lambda: "other#1" not in settled(shared), "and gone")
    unknown = shared.run("scale", "nothing", "2")
    assert unknown.returncode == 1
    assert unknown.stderr == "gworker: error: there is no Worker 'nothing'; there are text, other\n"
    assert shared.run("scale", "other", "0").returncode == 2
    too_many = shared.ask_arbiter("scale", worker="other", count=0)[-1]
    assert (too_many["exit"], too_many["error"]) == (1, "other: 0 processes; expected 1 to 1024")


@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "USR1", "TTIN", "TTOU", "WINCH", "PIPE"])
def test_signals_that_do_not_kill_a_worker_process(shared: Instance, name: str) -> None:
    before = settled(shared)
    for pid in before.values():
        os.kill(pid, signal.Signals[f"SIG{name}"])
    assert shared.ask("text", b"pid\n").strip().decode() in map(str, before.values())
    assert settled(shared) == before


def test_signals_for_the_group_do_not_kill_a_process_that_boots(shared: Instance) -> None:
    """A Ctrl-C or a closed terminal reaches every process; what it means is for the arbiter to
    say."""
    exits = len(shared.status()["exits"])
    old = settled(shared)["other#0"]
    os.kill(old, signal.SIGTERM)
    booting = wait_for(
        lambda: [row for row in shared.workers("other") if row["state"] == "booting"], "it boots"
    )
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(booting[0]["pid"], number)
    wait_for(lambda: settled(shared)["other#0"] == booting[0]["pid"], "it is the one that serves")
    assert len(shared.status()["exits"]) == exits


def test_term_to_a_worker_process_replaces_it_successor_first(shared: Instance) -> None:
    before = settled(shared)
    with shared.connect("text") as connection:
        connection.sendall(b"pid\n")
        pid = int(connection.recv(100))
        connection.sendall(b"sleep 0.5\n")
        os.kill(pid, signal.SIGTERM)
        assert connection.recv(100) == b"slept\n"
    wait_for(lambda: settled(shared) != before, "replaced")
    after = settled(shared)
    assert set(after) == set(before)
    assert pid not in after.values()
    assert sum(after[label] != before[label] for label in after) == 1
    assert [row for row in shared.status()["exits"] if row["pid"] == pid] == []


def test_kill_9_of_a_worker_process(shared: Instance) -> None:
    before = settled(shared)
    wait_for(
        lambda: all(row["uptime"] > 6 for row in shared.workers()), "they have proven themselves"
    )
    begin = time.monotonic()
    os.kill(before["text#1"], signal.SIGKILL)
    wait_for(
        lambda: settled(shared).get("text#1", before["text#1"]) != before["text#1"], "replaced"
    )
    assert time.monotonic() - begin < 20
    (row,) = (row for row in shared.status()["exits"] if row["pid"] == before["text#1"])
    assert (row["worker"], row["id"], row["reason"]) == ("text", 1, "killed by signal 9 (SIGKILL)")
    assert abs(row["time"] - time.time()) < 60
    shared.wait_log(f"text#1 (pid {before['text#1']}) killed by signal 9 (SIGKILL)")


def test_usr2_to_a_worker_process_writes_its_stacks(shared: Instance) -> None:
    with shared.connect("other") as connection:
        connection.sendall(b"sleep 3\n")
        wait_for(lambda: shared.workers("other")[0]["requests"] > 0, "the handler runs")
        os.kill(settled(shared)["other#0"], signal.SIGUSR2)
        shared.wait_log("in answer")
        assert connection.recv(100) == b"slept\n"


def test_usr2_to_the_arbiter_is_an_upgrade(shared: Instance) -> None:
    pid, generation = shared.pid, shared.status()["generation"]
    shared.signal(signal.SIGUSR2)
    shared.wait_log("has taken over from gworker")
    wait_for(lambda: shared.status()["generation"] == generation + 1, "the reload that follows")
    settled(shared)
    assert shared.pid == pid
    assert shared.ask("text", b"pid\n")


def gone(one: Instance) -> bool:
    return not one.processes()


def start(instance: Callable[..., Instance], *options: str) -> Instance:
    one = instance(APP.replace(", count=2", ""), *options)
    settled(one)
    return one


def test_term_finishes_what_runs(instance: Callable[..., Instance]) -> None:
    one = start(instance)
    with one.connect("text") as busy, one.connect("other") as idle:
        busy.sendall(b"sleep 1.5\n")
        idle.sendall(b"pid\n")
        assert idle.recv(100)
        wait_for(lambda: one.workers("text")[0]["requests"] == 1, "the handler runs")
        port = one.port("text")
        one.signal(signal.SIGTERM)
        wait_for(lambda: refused(port), "no new connections")
        assert idle.recv(100) == b"", "an idle one is closed at once"
        assert busy.recv(100) == b"slept\n"
        assert busy.recv(100) == b""
    assert one.wait_exit() == 0
    assert gone(one)
    assert (one.directory / "stopped").read_text() == "x"
    assert list(one.runtime.iterdir()) == []


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("signals", [["INT"], ["TERM", "TERM"], ["TERM", "QUIT"]], ids="-".join)
def test_a_quick_stop_does_not_wait_for_handlers(
    instance: Callable[..., Instance], signals: list[str]
) -> None:
    one = start(instance, "--graceful-timeout", "1000")
    with one.connect("text") as busy:
        busy.sendall(b"sleep 1000\n")
        wait_for(lambda: one.workers("text")[0]["requests"] == 1, "the handler runs")
        begin = time.monotonic()
        for name in signals:
            one.signal(signal.Signals[f"SIG{name}"])
            one.wait_log(f"received SIG{name}")
        assert one.wait_exit() == 0
        assert time.monotonic() - begin < 20
    assert gone(one)


def test_a_graceful_stop_ends_at_its_deadline(instance: Callable[..., Instance]) -> None:
    """Its own process ends a handler that sleeps; one that blocks its process is killed later. Both
    are named."""
    one = instance(
        places.app("blocking"),
        "--graceful-timeout",
        "1",
    )
    with one.connect("text") as busy, one.connect("slow") as waiting:
        busy.sendall(b"go\n")
        waiting.sendall(b"go\n")
        wait_for(lambda: one.workers("slow")[0]["requests"] == 1, "it waits")
        wait_for(lambda: one.workers()[0]["state"] == "busy", "it blocks")
        begin = time.monotonic()
        stopped = one.run("stop", "app")
        assert stopped.returncode == 0
        assert 2.5 < time.monotonic() - begin < 30
    assert one.wait_exit() == 0
    assert gone(one)
    log = one.read_log()
    assert "did not leave within 1 s: killed by signal 9 (SIGKILL)" in log
    assert "in block" in log.partition("did not leave within 1 s; its stacks follow")[2]
    rest = log.partition("slow#0 did not finish within 1 s; this still runs:")[2]
    assert "in linger" in rest.partition("[INFO]")[0]


def test_term_for_the_whole_group_is_a_graceful_stop(instance: Callable[..., Instance]) -> None:
    """systemd's KillMode=control-group."""
    one = start(instance)
    with one.connect("text") as busy:
        busy.sendall(b"sleep 1\n")
        wait_for(lambda: one.workers("text")[0]["requests"] == 1, "the handler runs")
        children: list[psutil.Process] = one.children()
        one.signal(signal.SIGTERM)
        for child in children:
            child.send_signal(signal.SIGTERM)
        assert busy.recv(100) == b"slept\n"
    assert one.wait_exit() == 0
    assert gone(one)
    assert "ERROR" not in one.read_log()


def test_term_during_the_start(instance: Callable[..., Instance]) -> None:
    one: Any = instance("import time\ntime.sleep(1000)", wait=False)
    wait_for(lambda: one.runtime.exists() and list(one.runtime.glob("*.sock")), "it has begun")
    one.signal(signal.SIGTERM)
    assert one.wait_exit() == 1
    assert "stopped before it was ready" in one.process.communicate()[1]
    assert gone(one)
    assert list(one.runtime.iterdir()) == []


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Instance]:
    """An instance that is not started."""
    one = Instance(tmp_path / "instance", APP)
    yield one
    one.kill()


def start_with_signals(one: Instance, *numbers: signal.Signals) -> None:
    """Start it with signals that come at the moment at which its pid file can be seen."""
    program = [
        sys.executable,
        str(APPS / "early_signals.py"),
        ",".join(str(int(number)) for number in numbers),
    ]
    arguments = one.arguments("app", "--log-file", str(one.log))
    one.process = subprocess.Popen(
        [*program, *arguments],
        cwd=one.directory,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_signal_that_comes_with_the_pid_file_waits_for_its_handler(one: Instance) -> None:
    numbers = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    start_with_signals(one, *numbers)
    one.wait_log("has taken over from gworker")  # USR2, when the start is over
    assert one.process is not None
    assert one.pid == one.process.pid
    for number in numbers:
        assert one.read_log().count(f"received {number.name}") == 1
    settled(one)


def test_a_stop_that_comes_with_the_pid_file_is_one(one: Instance) -> None:
    start_with_signals(one, signal.SIGTERM)
    assert one.wait_exit() == 1
    assert one.process is not None
    assert one.process.communicate()[1] == "gworker: error: stopped before it was ready\n"
    assert list(one.runtime.iterdir()) == []


def test_signals_while_an_upgrade_executes_the_new_code(one: Instance) -> None:
    one.start()
    upgrade = subprocess.Popen(one.command("upgrade"), cwd=one.directory, stdout=subprocess.DEVNULL)
    while upgrade.poll() is None:
        one.signal(signal.SIGUSR1)
        time.sleep(0.005)  # else there is no moment without a signal, for which the exec waits
    assert upgrade.returncode == 0
    assert "has taken over from gworker" in one.read_log()
    settled(one)
