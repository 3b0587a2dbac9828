"""The commands for a running instance, against a fake arbiter: real processes, real sockets,
invented answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import places
import pytest
from command_line import Arbiters, Run, Server

from gworker.cli import commands, control_client

STATUS: dict[str, Any] = {
    "name": "shop",
    "version": "0.1.0",
    "core": "compiled",
    "state": "running",
    "generation": 1,
    "arbiter": {"pid": 1, "uptime": 1.0, "rss": 1, "cpu_percent": 0.0},
    "workers": [
        {
            "worker": "chat",
            "id": 0,
            "pid": 5,
            "listen": "tcp://127.0.0.1:1",
            "state": "ready",
            "rss": 20 << 20,
        }
    ],
    "totals": {"connections": 7},
    "exits": [],
    "last_reload": None,
}


def test_restart_of_what_does_not_run_starts(
    gworker: Run, server: Server, arbiters: Arbiters
) -> None:
    assert gworker("restart", "chat", "-w", "2")[0] == 0
    assert server.served[0].workers == 2


def test_restart_stops_first(gworker: Run, server: Server, arbiters: Arbiters) -> None:
    arbiter = arbiters.start("def answer(call):\n  call.send({'timeout': 5})\n  quit()")
    code, out, _ = gworker("restart", "shop", "-w", "2")
    assert (code, out) == (0, "shop stopped\n")
    assert arbiter.wait(5) == 0
    assert server.served[0].workers == 2


def test_restart_does_not_start_what_does_not_stop(
    gworker: Run, server: Server, arbiters: Arbiters
) -> None:
    arbiters.start("def answer(call):\n  call.finish(1, error='busy')")
    assert gworker("restart", "shop") == (1, "", "gworker: error: busy\n")
    assert server.served == []


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_instance_is_found_by_the_file(
    gworker: Run, arbiters: Arbiters, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("shop", "other"):
        arbiters.start(
            f"def answer(call): call.send({{'status': {{'is': {name!r}}}}}); call.finish(0)", name
        )
    (here / "gworker.toml").write_text("target = 'app'\nname = 'shop'\nnonsense = 1")
    for argv in ([], ["app"], ["shop"]):
        assert json.loads(gworker("status", "--json", *argv)[1]) == {"is": "shop"}
    assert json.loads(gworker("status", "--json", "other")[1]) == {"is": "other"}
    assert gworker("status", "gone") == (3, "", "gworker: gone is not running\n")
    monkeypatch.setenv("GWORKER_NAME", "other")
    assert json.loads(gworker("status", "--json")[1]) == {"is": "other"}
    monkeypatch.delenv("GWORKER_NAME")
    (here / "gworker.toml").write_text("name =")
    code, out, err = gworker("list")
    assert (code, "shop" in out) == (0, True)
    assert err.endswith("; going on without this file\n")


def test_the_settings_in_force(gworker: Run, arbiters: Arbiters) -> None:
    rows = [["target", "chat", "command line"], ["workers", 2, "x.toml"]]
    answer = {"rows": rows, "pending": ["name"]}
    arbiters.start(f"def answer(call): call.send({{'settings': {answer!r}}}); call.finish(0)")
    expected = (
        'target = "chat"  # command line\nworkers = 2  # x.toml\n# restart needed for: name\n'
    )
    assert gworker("status", "--settings") == (0, expected, "")
    found = json.loads(gworker("status", "--settings", "--json")[1])
    assert found["settings"][1] == {"name": "workers", "value": 2, "origin": "x.toml"}
    assert found["pending"] == ["name"]


@pytest.mark.parametrize(
    "argv",
    [
        ["stop"],
        ["reload"],
        ["status"],
        ["status", "--json"],
        ["connections"],
        ["scale", "chat", "2"],
        ["status", "--watch"],
    ],
)
def test_not_running(gworker: Run, arbiters: Arbiters, argv: list[str]) -> None:
    assert gworker(*argv) == (3, "", "gworker: no instance is running\n")
    assert gworker(*argv, "--name", "shop") == (3, "", "gworker: shop is not running\n")


def test_named_in_every_way(gworker: Run, arbiters: Arbiters, tmp_path: Path) -> None:
    pid_file = str(tmp_path / "x.pid")
    arbiters.start(
        "def answer(call): call.send({'status': {'is': 'a'}}); call.finish(0)", "a:b", pid_file
    )
    arbiters.start("def answer(call): call.send({'status': {'is': 'c'}}); call.finish(0)", "c")
    for argv in (["a:b"], ["--name", "a:b"], ["-n", "a:b", "target"], ["--pid", pid_file]):
        code, out, _ = gworker("status", "--json", *argv)
        assert (code, json.loads(out)) == (0, {"is": "a"})
    elsewhere = ["--runtime-dir", str(tmp_path / "other")]
    assert gworker("status", "--json", *elsewhere, "--pid", pid_file)[0] == 0
    assert gworker("status", "--json", *elsewhere)[0] == 3
    code, _, err = gworker("status")
    assert code == 1
    assert "several instances run" in err


def test_status(gworker: Run, arbiters: Arbiters) -> None:
    arbiters.start(f"def answer(call): call.send({{call.command: {STATUS!r}}}); call.finish(0)")
    code, out, err = gworker("status", "--json")
    assert (code, json.loads(out), err) == (0, STATUS, "")
    code, out, err = gworker("status")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "shop  gworker 0.1.0, compiled core  running  generation 1"
    assert "tcp://127.0.0.1:1" in out


def test_an_answer_that_is_none(gworker: Run, arbiters: Arbiters) -> None:
    arbiters.start("def answer(call): call.finish(1, error='unknown command')")
    assert gworker("status") == (1, "", "gworker: error: unknown command\n")


def test_a_handler_that_fails(gworker: Run, arbiters: Arbiters) -> None:
    arbiters.start("def answer(call): 1/0")
    assert gworker("status") == (1, "", "gworker: error: ZeroDivisionError: division by zero\n")


def test_watch_goes_on_until_interrupted(arbiters: Arbiters) -> None:
    arbiters.start(f"def answer(call): call.send({{call.command: {STATUS!r}}}); call.finish(0)")
    watching = subprocess.Popen(
        [sys.executable, "-m", "gworker", "status", "--watch"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    headers = 0
    while headers < 2:
        headers += watching.stdout.readline().startswith("shop  gworker")
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=10)
    assert (watching.returncode, err) == (0, "")


def test_a_reader_that_leaves_is_no_traceback(arbiters: Arbiters) -> None:
    many = {**STATUS, "workers": STATUS["workers"] * 3000}
    (Path(arbiters.directory).parent / "many").write_text(json.dumps(many))
    path = str(Path(arbiters.directory).parent / "many")
    arbiters.start(
        f"def answer(call): call.send({{'status': json.load(open({path!r}))}}); call.finish(0)"
    )
    # Unbuffered, a write that is cut short would not be noticed.
    command = f"unset PYTHONUNBUFFERED; {sys.executable} -m gworker status | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout.startswith("shop  gworker")
    assert done.stderr == ""


@pytest.mark.parametrize("wait", [True, False])
def test_reload_shows_each_step(gworker: Run, arbiters: Arbiters, wait: bool) -> None:
    answers = """
    def answer(call):
        call.send({"step": f"{call.command} wait={call.arguments['wait']}"})
        call.send({"step": "chat#0 ready"})
        call.finish(0)
    """
    arbiters.start(answers)
    argv = ["reload"] if wait else ["reload", "--no-wait"]
    assert gworker(*argv) == (0, f"reload wait={wait}\nchat#0 ready\n", "")


def test_a_refused_reload(gworker: Run, arbiters: Arbiters) -> None:
    arbiters.start(
        "def answer(call): call.send({'step': 'probe'}); call.finish(1, error='SyntaxError: x')"
    )
    assert gworker("reload") == (1, "probe\n", "gworker: error: SyntaxError: x\n")


def test_an_arbiter_that_dies_in_between(gworker: Run, arbiters: Arbiters) -> None:
    arbiters.start("def answer(call): call.send({'step': 'probe'}); os._exit(1)")
    code, out, err = gworker("reload")
    assert (code, out) == (1, "probe\n")
    assert "closed the connection" in err


def test_scale(gworker: Run, arbiters: Arbiters) -> None:
    arbiters.start(
        "def answer(call): call.send({'step': str(sorted(call.arguments.items()))}); call.finish(0)"
    )
    expected = "[('count', 4), ('worker', 'chat')]\n"
    for argv in (
        ["chat", "4"],
        ["shop", "chat", "4"],
        ["--name", "shop", "chat", "4"],
        ["chat", "-n", "shop", "4"],
    ):
        assert gworker("scale", *argv) == (0, expected, "")


CONNECTIONS = "def answer(call): send_connections(call, {missing})"


def test_connections_of_all_processes(gworker: Run, arbiters: Arbiters) -> None:
    arbiters.start(CONNECTIONS.format(missing=[]))
    before = len(os.listdir("/proc/self/fd"))
    code, out, err = gworker("connections", "--json")
    assert (code, err) == (0, "")
    assert [(row["pid"], row["id"]) for row in json.loads(out)] == [
        (10, 1),
        (10, 2),
        (20, 1),
        (20, 2),
    ]
    assert len(json.loads(gworker("connections", "--json", "--limit", "3")[1])) == 3
    lines = gworker("connections", "--worker", "chat")[1].splitlines()
    assert len(lines) == 5
    assert lines[1].split()[:3] == ["10", "chat", "1"]
    assert len(os.listdir("/proc/self/fd")) == before


def test_processes_that_do_not_answer_are_named(gworker: Run, arbiters: Arbiters) -> None:
    arbiters.start(CONNECTIONS.format(missing=[40, 41]))
    code, out, err = gworker("connections", "--json")
    assert (code, len(json.loads(out))) == (0, 4)
    assert err == "gworker: note: no answer from process 40, 41: its connections are not listed\n"


def test_list(gworker: Run, arbiters: Arbiters) -> None:
    assert gworker("list") == (0, "no instance is running\n", "")
    who = (
        "{'name': 'a:b', 'pid': os.getpid(), 'target': 'a:b', 'version': '9', 'generation': 3, "
        "'workers': 2}"
    )
    one = arbiters.start(f"def answer(call): call.send({{'who': {who}}}); call.finish(0)", "a:b")
    two = arbiters.start("no_socket = True\ndef answer(call): pass", "two")
    code, out, err = gworker("list")
    assert (code, err) == (0, "")
    heading, first, second = (line.split() for line in out.splitlines())
    assert heading == ["NAME", "PID", "PROCESSES", "GEN", "UPTIME", "TARGET", "VERSION"]
    assert [*first[:4], *first[5:]] == ["a:b", str(one.pid), "2", "3", "a:b", "9"]
    assert [*second[:4], *second[5:]] == ["two", str(two.pid), "-", "-", "-", "-"]


def test_list_does_not_wait_for_one_that_hangs(
    gworker: Run, arbiters: Arbiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "WHO_TIMEOUT", 0.1)
    arbiter = arbiters.start("def answer(call): globals().setdefault('kept', call)")
    _, out, err = gworker("list")
    assert out.splitlines()[1].startswith("shop")
    assert (
        f"note: shop (pid {arbiter.pid}) does not answer: nothing for 0.1 s; it is sleeping" in err
    )


IN_TIME = 0.4
"""Seconds of silence that these tests allow."""


@pytest.mark.parametrize(
    "argv",
    [
        ["reload"], ["scale", "chat", "2"], ["upgrade"], ["status"], ["status", "--settings"],
        ["connections"],
        ["stop"], ["restart", "app:handlers", "--name", "shop"],
    ],
    ids="-".join,
)  # fmt: skip
def test_every_command_gives_up_on_an_arbiter_that_is_stopped(
    gworker: Run, arbiters: Arbiters, monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    monkeypatch.setattr(control_client, "SILENCE", IN_TIME)
    arbiter = arbiters.start("def answer(call): call.finish(0)")
    arbiter.send_signal(signal.SIGSTOP)
    code, out, err = gworker(*argv)
    assert (code, out) == (1, "")
    assert err == (
        f"gworker: error: shop (pid {arbiter.pid}) does not answer: nothing for {IN_TIME:g} s;"
        f" it is stopped (SIGSTOP, or Ctrl-Z in its terminal); `kill -CONT {arbiter.pid}` lets "
        "it go on\n"
    )


@pytest.mark.parametrize("argv", [["reload"], ["status"], ["stop"], ["health"]], ids="-".join)
def test_one_that_is_stopped_and_whose_queue_is_full(
    gworker: Run, arbiters: Arbiters, monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    monkeypatch.setattr(control_client, "SILENCE", IN_TIME)
    monkeypatch.setattr(commands, "HEALTH_TIMEOUT", IN_TIME)
    arbiter = arbiters.start("def answer(call): call.finish(0)")
    arbiter.send_signal(signal.SIGSTOP)
    (path,) = Path(arbiters.directory).glob("*.sock")
    with ExitStack() as queue:
        with pytest.raises(BlockingIOError):
            while True:  # as probes do that have given up: the kernel keeps their places
                waiting = queue.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(path))
        code, out, err = gworker(*argv)
    assert (code, out) == (1, "")
    assert (
        f"shop (pid {arbiter.pid}) does not answer: nothing for {IN_TIME:g} s; it is stopped" in err
    )


def test_one_that_is_stopped_within_its_answer(
    gworker: Run, arbiters: Arbiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_client, "SILENCE", IN_TIME)
    arbiters.start(
        "def answer(call): call.send({'step': 'begun'}); os.kill(os.getpid(), signal.SIGSTOP)"
    )
    code, out, err = gworker("reload")
    assert (code, out) == (1, "begun\n")
    assert "it is stopped" in err


def test_one_that_does_not_get_round_to_it(
    gworker: Run, arbiters: Arbiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_client, "SILENCE", IN_TIME)
    arbiters.start("def answer(call):\n  while True: pass")
    assert "it is running, and does not get round to answering" in gworker("reload")[2]
    arbiters.start("def answer(call): signal.pause()", "other")
    assert "it is sleeping, and does not get round to answering" in gworker("reload", "other")[2]


# It takes five times as long as a command waits for a word, and tells in between that it is at
# work.
AT_WORK = f"def answer(call): work(call, {5 * IN_TIME}, {IN_TIME / 8})"


@pytest.mark.parametrize("argv", [["reload"], ["scale", "chat", "2"], ["upgrade"]], ids="-".join)
def test_what_takes_long_is_not_cut_while_the_arbiter_says_that_it_is_at_work(
    gworker: Run, arbiters: Arbiters, monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    monkeypatch.setattr(control_client, "SILENCE", IN_TIME)
    arbiters.start(AT_WORK)
    began = time.monotonic()
    assert gworker(*argv) == (0, "begun\n", "")
    assert time.monotonic() - began > 4 * IN_TIME


def test_stop_waits_for_the_end(gworker: Run, arbiters: Arbiters) -> None:
    answers = """
    def answer(call):
        call.send({"timeout": 5})
        call.send({"step": f"stopping, quick={call.arguments['quick']}"})
        quit()
    """
    arbiter = arbiters.start(answers)
    assert gworker("stop", "--quick") == (0, "stopping, quick=True\nshop stopped\n", "")
    # It has ended though it was not reaped: a zombie does not count as there.
    assert arbiter.wait(0) == 0
    assert gworker("stop")[0] == 3


def test_stop_with_a_last_word(gworker: Run, arbiters: Arbiters) -> None:
    arbiters.start("def answer(call): call.send({'timeout': 5}); call.finish(0); quit()")
    assert gworker("stop") == (0, "shop stopped\n", "")


def test_stop_gives_up_after_the_timeout_and_a_margin(
    gworker: Run, arbiters: Arbiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "STOP_MARGIN", 0.1)
    arbiter = arbiters.start("def answer(call): call.send({'timeout': 0.1}); call.finish(0)")
    code, out, err = gworker("stop")
    assert (code, out) == (1, "")
    assert err == f"gworker: error: shop (pid {arbiter.pid}) is still there\n"


def test_stop_does_not_wait_for_ever_for_one_that_hangs(
    gworker: Run, arbiters: Arbiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "STOP_MARGIN", 0.1)
    arbiter = arbiters.start("def answer(call): call.send({'timeout': 0.1}); signal.pause()")
    assert gworker("stop") == (1, "", f"gworker: error: shop (pid {arbiter.pid}) is still there\n")


def test_stop_gives_up_on_one_that_only_says_that_it_is_alive(
    gworker: Run, arbiters: Arbiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processes cannot be killed, say."""
    monkeypatch.setattr(commands, "STOP_MARGIN", 0.3)
    arbiter = arbiters.start(
        f"def answer(call): work(call, {5 * IN_TIME}, {IN_TIME / 8}, ('timeout', 0.1), False)"
    )
    assert gworker("stop") == (1, "", f"gworker: error: shop (pid {arbiter.pid}) is still there\n")


@pytest.mark.parametrize("argv", [["stop"], ["stop", "--quick"]])
def test_stop_by_signal_where_there_is_no_socket(
    gworker: Run, arbiters: Arbiters, argv: list[str]
) -> None:
    arbiter = arbiters.start("no_socket = True\ndef answer(call): pass")
    assert gworker(*argv) == (0, "shop stopped\n", "")
    assert arbiter.wait(0) == 0


COLLECTS = places.program("collects_garbage")


def test_what_goes_on_for_long_collects_garbage(tmp_path: Path) -> None:
    command = [*COLLECTS, str(tmp_path)]
    done = subprocess.run(
        command, cwd=tmp_path, text=True, capture_output=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == ["serving True", "watching True"], done.stderr
