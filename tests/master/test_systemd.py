"""What is told to a service manager and when: sd_notify(3), sd_watchdog_enabled(3). An invented
clock, real sockets."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from world import World, declaration

from gworker.errors import ConfigError
from gworker.master import systemd
from gworker.master.systemd import Invocation, Notifier, take
from gworker.master.watchdog import BEAT_SECONDS


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str | bytes) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[dict[str, str]]:
        """Every message since the last call."""
        found = []
        while True:
            try:
                text = self.socket.recv(65536).decode()
            except BlockingIOError:
                return found
            found.append(dict(line.split("=", 1) for line in text.split("\n")))

    def states(self, *names: str) -> list[tuple[str, str]]:
        """What was said about these since the last call, in order."""
        return [
            (name, value) for each in self.heard() for name, value in each.items() if name in names
        ]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.socket.close()


@pytest.fixture
def make(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, manager: Manager
) -> Iterator[Callable[..., World]]:
    """`make(watchdog=…, **settings)`: an arbiter that `manager` has started."""
    made: list[World] = []

    def one(watchdog: float | None = None, **settings: object) -> World:
        invocation = Invocation(str(tmp_path / "notify"), watchdog)
        made.append(World(tmp_path, invocation, **settings))
        return made[-1]

    yield one
    for world in made:
        world.close()


# ---- the environment


def test_the_variables_are_read_and_removed() -> None:
    environment = {
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": "7",
        "LISTEN_PID": "8",
        "LISTEN_FDS": "1",
        "LISTEN_FDNAMES": "web",
        "HOME": "/",
    }
    invocation = take(environment, 7)
    assert (invocation.notify, invocation.watchdog) == ("/run/systemd/notify", 30.0)
    assert invocation.complaints == (
        "LISTEN_PID=8 is another process: the 1 sockets passed to it are not used",
    )
    assert environment == {"HOME": "/"}


def test_no_state_is_reported_without_variables() -> None:
    invocation = take({}, 7)
    assert (invocation.notify, invocation.watchdog, invocation.complaints) == ("", None, ())
    notifier = Notifier(invocation.notify)
    notifier.send(READY=1)
    assert not notifier._waiting


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"NOTIFY_SOCKET": "run/notify"}, "NOTIFY_SOCKET='run/notify' is neither"),
        ({"NOTIFY_SOCKET": "@"}, "NOTIFY_SOCKET='@' is neither"),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "-1"}, "WATCHDOG_USEC='-1' is not a number"),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "0"}, "WATCHDOG_USEC='0' is not a number"),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1e6"}, "WATCHDOG_USEC='1e6' is not a number"),
    ],
)
def test_what_makes_no_sense_is_complained_of_and_lived_without(
    variables: dict[str, str], complaint: str
) -> None:
    invocation = take(variables, 7)
    assert invocation.complaints[0].startswith(complaint)
    assert invocation.watchdog is None
    assert variables == {}


def test_the_watchdog_of_another_process_is_not_ours() -> None:
    assert (
        take({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "8"}, 7).watchdog
        is None
    )
    assert take({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1000000"}, 7).watchdog == 1.0


def test_the_variables_are_removed_even_if_the_sockets_make_no_sense() -> None:
    environment = {
        "LISTEN_PID": "x",
        "LISTEN_FDS": "1",
        "NOTIFY_SOCKET": "/n",
        "WATCHDOG_USEC": "1",
    }
    with pytest.raises(ConfigError, match="LISTEN_PID='x' is not a whole number"):
        take(environment, 7)
    assert environment == {}


# ---- sending


def test_an_abstract_address() -> None:
    name = f"gworker-test-{os.getpid()}"
    manager = Manager(f"\0{name}")
    Notifier(take({"NOTIFY_SOCKET": f"@{name}"}, 7).notify).send(READY=1, STATUS="two\nlines")
    assert manager.heard() == [{"READY": "1", "STATUS": "two lines"}], (
        "a line break would begin another field"
    )
    manager.socket.close()


def test_a_manager_that_is_not_there_does_no_harm(tmp_path: Path) -> None:
    for address in (str(tmp_path / "nobody"), str(tmp_path / ("x" * 200))):
        notifier = Notifier(address)
        notifier.send(READY=1)
        assert not notifier._waiting, "it will never be read"


def test_what_a_busy_manager_does_not_take_is_sent_later(manager: Manager, tmp_path: Path) -> None:
    notifier = Notifier(str(tmp_path / "notify"))
    sent = 0
    while not notifier._waiting:
        sent += 1
        notifier.send(READY=1, NUMBER=sent)
        assert sent < 10_000
    notifier.send(WATCHDOG=1)
    notifier.forget_watchdog()
    notifier.send(STOPPING=1)
    numbers = [int(each["NUMBER"]) for each in manager.heard()]
    notifier.flush()
    assert [*numbers, int(manager.heard()[0]["NUMBER"])] == list(range(1, sent + 1)), (
        "none is lost, in order"
    )


def test_no_more_than_some_messages_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.EAGAIN, "busy")

    monkeypatch.setattr(systemd, "_send", full)
    notifier = Notifier("/n")
    for _ in range(100):
        notifier.send(STATUS="x")
    assert len(notifier._waiting) == systemd.MAX_WAITING


def test_a_status_is_one_line_of_bounded_length(manager: Manager, tmp_path: Path) -> None:
    Notifier(str(tmp_path / "notify")).send(STATUS="é" * 1000)
    assert len(manager.heard()[0]["STATUS"]) == systemd.MAX_STATUS


# ---- what the arbiter does


def test_ready_is_told_when_the_first_generation_is(
    make: Callable[..., World], manager: Manager
) -> None:
    world = make()
    world.begin()
    world.declare(declaration("a", count=2))
    first, second = world.booting()
    world.ready(first)
    assert manager.states("READY", "STATUS") == [("STATUS", "starting")]
    world.ready(second)
    (ready,) = (each for each in manager.heard() if "READY" in each)
    assert ready == {
        "READY": "1",
        "MAINPID": str(os.getpid()),
        "STATUS": "2 processes, generation 1",
    }


@pytest.mark.parametrize("refused", [False, True])
def test_a_reload_is_told_with_its_time_and_ends_ready(
    make: Callable[..., World], manager: Manager, refused: bool
) -> None:
    world = make()
    world.start(declaration("a"))
    manager.heard()
    world.sleep(50)
    world.signal(signal.SIGHUP)
    begun = manager.heard()[0]
    # Without the time, or with one from before the signal, systemd does not take it for the reload
    # that it asked for.
    assert (begun["RELOADING"], begun["MONOTONIC_USEC"]) == ("1", str(int(world.now * 1e6)))
    if refused:
        world.fail(world.probe, "SyntaxError: invalid syntax (app.py, line 3)")
        expected = (
            "1 process, generation 1; reload refused: SyntaxError: invalid syntax (app.py, line 3)"
        )
    else:
        world.declare(declaration("a"))
        world.ready(*world.booting())
        expected = "1 process, generation 2"
    (ready,) = (each for each in manager.heard() if "READY" in each)
    assert ready == {"READY": "1", "STATUS": expected}


def test_a_reload_that_ends_in_the_turn_in_which_it_began_is_told_whole(
    make: Callable[..., World], manager: Manager
) -> None:
    world = make()
    world.start(declaration("a"))
    manager.heard()
    world.kernel.refused = 1
    world.signal(signal.SIGHUP)
    told = manager.states("RELOADING", "READY", "STATUS")
    assert [name for name, _ in told] == ["RELOADING", "STATUS", "READY", "STATUS"]
    assert told[-1][1].endswith("reload refused: fork: Resource temporarily unavailable")


def test_a_second_hup_is_a_second_reload_to_the_manager(
    make: Callable[..., World], manager: Manager
) -> None:
    """The manager waits for a reload that began after its own signal: the first one's end is not
    its end."""
    world = make()
    world.start(declaration("a"))
    manager.heard()
    world.signal(signal.SIGHUP)
    world.sleep(1)
    world.signal(signal.SIGHUP)
    for _ in range(2):
        world.declare(declaration("a"))
        world.ready(*world.booting())
    times = [int(each["MONOTONIC_USEC"]) for each in manager.heard() if "RELOADING" in each]
    assert len(times) == 2
    assert times[1] - times[0] >= 1_000_000
    assert world.instance.state == "running"


def test_stopping_is_told_once(make: Callable[..., World], manager: Manager) -> None:
    world = make()
    world.start(declaration("a"))
    manager.heard()
    world.signal(signal.SIGTERM)
    world.signal(signal.SIGTERM)
    assert manager.states("STOPPING") == [("STOPPING", "1")]


def test_a_start_that_fails_is_never_ready(make: Callable[..., World], manager: Manager) -> None:
    world = make()
    world.begin()
    world.fail(world.probe)
    assert manager.states("READY", "STOPPING") == [("STOPPING", "1")]


def test_the_status_says_what_is_missing_and_that_it_came_back(
    make: Callable[..., World], manager: Manager
) -> None:
    world = make()
    world.start(declaration("a", count=2))
    manager.heard()
    world.sleep(10)
    world.die(world.living()[0], 9)
    world.ready(*world.booting())
    assert manager.states("STATUS") == [
        ("STATUS", "1 of 2 processes, generation 1"),
        ("STATUS", "2 processes, generation 1"),
    ]


def test_more_time_is_asked_for_than_the_arbiter_takes(
    make: Callable[..., World], manager: Manager
) -> None:
    world = make(boot_timeout=300.0, graceful_timeout=600.0)
    world.begin()
    assert int(manager.states("EXTEND_TIMEOUT_USEC")[0][1]) > 300e6
    world.declare(declaration("a"))
    world.ready(*world.booting())
    manager.heard()
    world.sleep(20)
    world.die(*world.living(), 9)
    assert len(world.booting()) == 1
    assert manager.states("EXTEND_TIMEOUT_USEC") == [], "not while it runs, though a process boots"
    world.ready(*world.booting())
    world.signal(signal.SIGTERM)
    assert int(manager.states("EXTEND_TIMEOUT_USEC")[0][1]) > 600e6


# ---- the watchdog


def signs(world: World, manager: Manager, seconds: float) -> int:
    manager.heard()
    world.sleep(seconds)
    return len(manager.states("WATCHDOG"))


def test_signs_of_life_come_at_half_the_interval(
    make: Callable[..., World], manager: Manager
) -> None:
    world = make(watchdog=20.0)
    world.start(declaration("a"))
    assert signs(world, manager, 60) == 6
    assert world.instance.supervision.next_deadline() - world.now <= 10


def test_without_a_watchdog_nothing_is_sent_and_nothing_wakes(
    make: Callable[..., World], manager: Manager
) -> None:
    world = make()
    world.start(declaration("a"))
    manager.heard()
    world.sleep(60)
    assert manager.heard() == []
    assert world.instance.supervision.next_deadline() == float("inf")


def test_no_sign_while_a_worker_has_no_process_that_serves(
    make: Callable[..., World], manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    world = make(watchdog=4.0)
    world.start(declaration("a", count=2), declaration("b"))
    world.sleep(10)
    (b,) = (each for each in world.living() if each.worker == "b")
    a = next(each for each in world.living() if each.worker == "a")
    world.die(a, 9)
    assert signs(world, manager, 10) >= 4, "another one of a serves"
    world.die(b, 9)
    assert signs(world, manager, 10) == 0
    assert (
        caplog.text.count("the service manager gets no sign of life: no process of b serves") == 1
    )
    world.ready(*world.booting())
    assert signs(world, manager, 10) >= 4


@pytest.mark.parametrize(("timeout", "limit"), [(0.0, 6.0), (2.0, 2.0)])
def test_no_sign_while_all_event_loops_of_a_worker_hang(
    make: Callable[..., World], manager: Manager, timeout: float, limit: float
) -> None:
    world = make(watchdog=6.0, timeout=timeout)
    world.start(declaration("a", count=2))
    world.sleep(10)
    first, second = world.living()
    supervision = world.instance.supervision
    now = int(world.now * 1e9)
    first.row[0], second.row[0] = now - int((limit + BEAT_SECONDS + 0.1) * 1e9), now
    view = world.instance.view()
    assert supervision.fault(view) is None, "one of them turns"
    second.row[0] = first.row[0]
    earlier = dataclasses.replace(view, now=world.now - 0.2)
    assert supervision.fault(earlier) is None, "a beat may be a second old and mean nothing"
    assert supervision.fault(view) == f"no process of a has turned its event loop for {limit:g} s"


def test_an_ill_instance_is_looked_at_again_before_the_manager_acts(
    make: Callable[..., World], manager: Manager
) -> None:
    world = make(watchdog=30.0)
    world.start(declaration("a"))
    (process,) = world.living()
    process.row[0] = 0
    world.instance.supervision._next_sign = world.now
    world.run()
    assert 0 < world.instance.supervision.next_deadline() - world.now <= 1.0
    process.row[0] = int((world.now + 1) * 1e9)
    assert signs(world, manager, 1.5) == 1


def test_all_is_well_only_after_a_look(make: Callable[..., World], manager: Manager) -> None:
    """The chores see to processes that hang. While they wait for messages, the arbiter cannot say
    that all is well."""
    world = make(watchdog=2.0)
    world.start(declaration("a"))
    world.sleep(3)
    manager.heard()
    world.instance.supervision._next_sign = world.now
    for _ in range(2):
        world.arbiter.messages.append(lambda: None)
    world.arbiter.turn()
    assert manager.states("WATCHDOG") == []
    world.arbiter.turn()
    assert manager.states("WATCHDOG") == [("WATCHDOG", "1")]


def test_a_rolling_reload_is_healthy(make: Callable[..., World], manager: Manager) -> None:
    world = make(watchdog=2.0, boot_timeout=60.0)
    world.start(declaration("a"))
    world.reload()
    world.declare(declaration("a"))
    assert signs(world, manager, 10) >= 9, "its successor boots for a while"


def test_a_worker_that_a_reload_adds_is_not_missed_before_it_is_over(
    make: Callable[..., World], manager: Manager
) -> None:
    world = make(watchdog=2.0)
    world.start(declaration("a"))
    world.sleep(5)
    world.reload()
    world.declare(declaration("a"), declaration("b"))
    world.ready(*world.booting())
    assert set(world.fleet.plan.counts) == {"a", "b"}
    assert [each.label for each in world.booting()] == ["b#0"]
    assert signs(world, manager, 10) >= 9, "b boots"
    (a,) = (each for each in world.living() if each.generation == 2 and each.worker == "a")
    world.die(a, 9)
    assert signs(world, manager, 10) == 0, "a is missed, also now"


def test_starting_and_stopping_are_healthy(make: Callable[..., World], manager: Manager) -> None:
    world = make(watchdog=2.0, graceful_timeout=60.0)
    world.begin()
    assert signs(world, manager, 10) >= 9
    world.declare(declaration("a"))
    world.ready(*world.booting())
    world.signal(signal.SIGTERM)
    assert signs(world, manager, 10) >= 9
