"""What user code forks in a worker process is no second worker process, and does not outlive it."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import places
import psutil
import pytest
from instance import DEADLINE, Instance, is_alive, sockets, wait_for
from serving import Client, Served, serve

pytestmark = pytest.mark.timeout(180)

APPS = places.APPS
APP = (APPS / "forks.py").read_text()

WAYS = ("fork", "terminal", "unpatched", "blocking", "blocking-terminal", "timer", "greenlet")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, APP) as one:
        yield one


def do(app: Served, command: str) -> str:
    """What the process answers to `command`."""
    with Client(app, "text") as client:
        client.send(f"{command}\n")
        answer, _, pid = client.line().rpartition(" ")
        assert int(pid) == app.server("text").pid
        return answer


def copy_by(app: Served, command: str) -> psutil.Process:
    """The copy that `command` forks, once it sleeps."""
    pid = int(do(app, command))
    wait_for(lambda: "sleeps" in notes(app, pid), f"{command}: {pid} sleeps")
    return psutil.Process(pid)


def notes(app: Instance, pid: int | None = None) -> str:
    """What process `pid`, or any, has written down."""
    path = app.directory / "copies"
    lines = path.read_text().splitlines() if path.exists() else []
    return "\n".join(line for line in lines if pid is None or line.startswith(f"{pid} "))


class Asker(threading.Thread):
    """Connects, and asks in two packets, again and again."""

    def __init__(self, app: Served, until: float) -> None:
        super().__init__()
        self._app = app
        self._until = until
        self.answers: list[str] = []
        self.failures: list[str] = []
        self.start()

    def run(self) -> None:
        while time.monotonic() < self._until:
            try:
                with socket.create_connection(
                    ("127.0.0.1", self._app.port("text")), DEADLINE
                ) as one:
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    for _ in range(5):
                        one.sendall(b"pi")
                        time.sleep(0.002)
                        one.sendall(b"d\n")
                        self.answers.append(one.recv(100).decode())
            except OSError as error:
                self.failures.append(repr(error))


def test_copies_answer_no_client_and_cut_no_line(app: Served) -> None:
    copies = [copy_by(app, f"{way} 100") for way in WAYS] + [
        psutil.Process(int(do(app, "process 100 fork")))
    ]
    try:
        askers = [Asker(app, time.monotonic() + 1.5) for _ in range(8)]
        for asker in askers:
            asker.join()
        answers = [answer for asker in askers for answer in asker.answers]
        pid = app.server("text").pid
        assert len(answers) > 100
        assert set(answers) == {f"{pid} {pid}\n"}
        assert [failure for asker in askers for failure in asker.failures] == []
        assert all(map(is_alive, copies))
    finally:
        for copy in copies:
            copy.terminate()
    wait_for(lambda: not any(map(is_alive, copies)), "SIGTERM ends a copy, as any program")
    assert app.server("text").pid == pid, "and asks for no successor"


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_holds_nothing_of_its_parent(app: Served, way: str) -> None:
    with Client(app, "text") as client, Client(app, "text"):
        client.send("pid\n")
        client.line()
        copy = copy_by(app, f"{way} 100")
        try:
            assert sockets(copy.pid) & sockets(app.server("text").pid) == set()
            assert copy.cmdline()[0].startswith("gworker: child ")
        finally:
            copy.terminate()
        wait_for(lambda: not is_alive(copy), "the end of the copy")
        client.send("pid\n")
        assert client.line(), "nothing was shut down"


def test_exit_codes_of_copies(app: Served) -> None:
    assert do(app, "leave 3") == "3"
    assert do(app, "leave raise") == "1"
    assert do(app, "leave return") == "0", "there is nothing for it to return to"
    app.wait_log("ValueError: raised in a copy")


def test_gevent_goes_on_in_a_copy(app: Served) -> None:
    assert do(app, "gevent") == "7", notes(app)


def test_a_copy_can_send_nothing(app: Served) -> None:
    before = app.row("text")["send_failures"]
    with Client(app, "text") as client:
        client.send("send\n")
        assert client.line().startswith("0 ")
        client.send("pid\n")
        assert client.line(), "the parent's connection is as it was"
    assert "send False closed" in notes(app)
    assert app.row("text")["send_failures"] == before, "the scoreboard is the parent's"


@pytest.mark.parametrize("what", ["sleep", "socket", "end", "poll"])
def test_other_handlers_do_not_go_on_in_a_copy(app: Served, what: str) -> None:
    with Client(app, "text") as client:
        client.send(f"wait {what} 0.3\n")
        pid = int(do(app, "busy 1"))
        assert client.line() == f"{what} {app.server('text').pid}"
        wait_for(lambda: "used" in notes(app, pid), "the end of the copy")
    went_on = [
        line.split()[0]
        for line in notes(app).splitlines()
        if line.endswith(f"went on after {what}")
    ]
    assert went_on == [str(app.server("text").pid)]
    assert float(notes(app, pid).split()[-1]) < 0.5, "and nothing spins instead"


def test_orders_reach_the_parent_alone(app: Served) -> None:
    copies = [copy_by(app, "fork 100") for _ in range(4)]
    before = app.server("text").pid
    try:
        assert app.reload() == {"exit": 0}
        assert int(app.ask("text", b"pid\n").split()[0]) != before
        app.wait_log("what was started here may go on until the deadline: ")
    finally:
        for copy in copies:
            copy.terminate()
    wait_for(lambda: not psutil.pid_exists(before), "the end of the predecessor")
    assert notes(app, before).count("on_worker_stop") == 1
    assert all("on_worker_stop" not in notes(app, copy.pid) for copy in copies)


def test_a_copy_of_a_process_that_retires(app: Served) -> None:
    with Client(app, "text") as client, Client(app, "text") as moves:
        moves.send("pid\n")
        before = int(moves.line().split()[0])
        served = app.row("text")["requests"]
        client.send("late 100\n")
        wait_for(lambda: app.row("text")["requests"] > served, "the handler runs")
        app.signal(signal.SIGHUP)
        copy = psutil.Process(int(client.line().split()[0]))
        wait_for(lambda: "sleeps" in notes(app, copy.pid), "the copy sleeps")
        try:
            assert sockets(copy.pid) & sockets(before) == set()
            assert moves.rest() == b"", (
                "the copy keeps no connection open that the parent has closed"
            )
        finally:
            copy.terminate()
    wait_for(lambda: not psutil.pid_exists(before), "the end of the predecessor")


def test_an_error_in_a_callback_of_the_loop_ends_a_copy(app: Served) -> None:
    copy = int(do(app, "loop 1"))
    wait_for(lambda: not psutil.pid_exists(copy), "its end")
    app.wait_log("BlockingSwitchOutError")


# ---- instances of their own: what outlives what


def descendants(app: Served) -> list[psutil.Process]:
    return psutil.Process(app.server("text").pid).children(recursive=True)


def test_nothing_survives_a_killed_worker_and_peers_are_told(
    serving: Callable[..., Served],
) -> None:
    app = serving(APP)
    for way in WAYS:
        copy_by(app, f"{way} 100")
    for command in (
        "process 100 fork",
        "process 100 spawn",
        "process 100 forkserver",
        "execute 100",
        "session 100",
    ):
        do(app, command)
    started = descendants(app)
    assert len(started) >= len(WAYS) + 5
    with Client(app, "text") as client:
        client.send("pid\n")
        client.line()
        app.server("text").kill()
        client.socket.settimeout(5)
        assert client.is_cut(), "no process holds the other end"
    wait_for(lambda: not any(map(is_alive, started)), "the end of what it has started", 10)
    wait_for(
        lambda: "is ready" in app.read_log().rpartition("killed by signal 9")[2], "a successor"
    )
    assert do(app, "pid")


def test_a_stop_ends_what_goes_on_at_the_deadline_and_frees_the_port(
    serving: Callable[..., Served],
) -> None:
    app = serving(APP, "--graceful-timeout", "2")
    listen = app.listen["text"]
    for command in ("fork 100", "process 100 fork", "process 100 spawn", "execute 100", "fork 0.5"):
        do(app, command)
    started = descendants(app)
    began = time.monotonic()
    assert app.run("stop").returncode == 0
    assert 1.5 < time.monotonic() - began < 4, "they may go on until the deadline, and no longer"
    assert not any(map(is_alive, started))
    assert "slept" in notes(app), "what can end in time does"
    assert app.process is not None
    assert "Traceback" not in app.process.communicate()[1], "what waits for a child sees its end"
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", int(listen.rpartition(":")[2])))
        one.listen()


def test_a_quick_stop_waits_for_nothing(serving: Callable[..., Served]) -> None:
    app = serving(APP)
    for command in ("fork 100", "process 100 spawn", "execute 100"):
        do(app, command)
    started = descendants(app)
    began = time.monotonic()
    assert app.run("stop", "--quick").returncode == 0
    assert time.monotonic() - began < 4
    assert not any(map(is_alive, started))


def test_a_copy_never_goes_on_with_what_gworker_does(tmp_path: Path) -> None:
    one = Instance(tmp_path / "app", (APPS / "forks_falling_through.py").read_text())
    try:
        one.start()
        assert one.reload() == {"exit": 0}
        wait_for(
            lambda: "master_reload raise" in (one.directory / "ends").read_text(),
            "the callback of the instance",
        )
        assert one.run("stop").returncode == 0
    finally:
        one.kill()
    ends = Counter((one.directory / "ends").read_text().splitlines())
    times = {"import": 5, "start": 2, "reload": 1, "stop": 2, "master_reload": 1}
    codes = {"return": 0, "exit": 4, "raise": 1}
    assert ends == {
        f"{place} {how} {code}": times[place] for place in times for how, code in codes.items()
    }


def test_a_second_stop_cuts_the_wait_short(serving: Callable[..., Served]) -> None:
    app = serving(APP)
    do(app, "fork 100")
    started = descendants(app)
    app.signal(signal.SIGTERM)
    app.wait_log("what was started here may go on until the deadline: ")
    began = time.monotonic()
    app.signal(signal.SIGTERM)
    assert app.wait_exit() == 0
    assert time.monotonic() - began < 2
    assert not any(map(is_alive, started))
    assert "killed by" not in app.read_log()


def test_forks_at_import_and_at_start(serving: Callable[..., Served]) -> None:
    app = serving(
        APP, "--env", "FORK_AT_IMPORT=100", "--env", "FORK_AT_START=100", "--graceful-timeout", "1"
    )
    pid = app.server("text").pid
    copies = wait_for(
        lambda: [each for each in descendants(app) if "sleeps" in notes(app, each.pid)][1:],
        "two copies",
    )
    asked = {app.ask("text", b"pid\n") for _ in range(50)}
    assert asked == {f"{pid} {pid}\n".encode()}
    held = sockets(pid)
    assert all(sockets(copy.pid) & held == set() for copy in copies)
    assert all(each.cmdline()[0].startswith("gworker: child ") for each in descendants(app))
    checked = app.run("check", "app", "--env", "FORK_AT_IMPORT=100")
    assert checked.returncode == 0
    assert {each.pid for each in app.processes()} == {
        app.pid,
        pid,
        *(each.pid for each in descendants(app)),
    }
    everything = psutil.Process(app.pid).children(recursive=True)
    app.signal(signal.SIGTERM)
    assert app.wait_exit() == 0
    assert not any(map(is_alive, everything))
