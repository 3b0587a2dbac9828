"""The time of day may jump: by ntpd(8), by hand, after a suspend. No deadline depends on it."""

from __future__ import annotations

import ast
import itertools
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from world import World, declaration

import gworker

TOLD = {
    "logs/access_log.py": "the time of a request",
    "logs/access_format.py": "the time of a request",
    "http/session.py": "whether a cookie has expired, which another process may have made",
    "tls/contexts.py": "whether a certificate has expired",
    "process/child.py": "compared with the modification times of files",
    "cli/commands.py": "the age of an instance that does not answer, from psutil, which tells the "
    "time of day",
    "process/connection_list.py": "the age of a connection, which is told",
    "http/date.py": "the Date of an answer",
    "http/files.py": "whether a file has only just changed",
    "process/cron.py": "nothing: whether an expression is valid shows in the time after now",
    "master/exit_status.py": "when a process ended",
    "server/socketserver_adapter.py": "when a connection was accepted",
    "logs/setup.py": "the time of a record",
    "client/connector.py": "when a connection was dialled",
    "connection/connection.py": "when a connection was accepted",
    "broker/link/link.py": "since when and until when messages may be lost",
    "broker/memory.py": "the same",
    "broker/redis/subscriptions.py": "the same",
    "messages/gaps.py": "the same",
    "messages/handover/arrival.py": "the same",
    "messages/handover/departure.py": "the same",
    "messages/stream_position.py": "the same",
    "cli/figures.py": "the time of an end, in the zone of the reader",
    "cli/status_tables.py": "how long ago a process has ended",
    "process/timer.py": "when a cron expression is due, which is a time of day (test_timer.py "
    "sets the clock)",
}
"""Files that ask for the time of day, and what they tell by it. None but the last one waits by
it."""

CLOCKS = {"time", "gmtime", "localtime", "now", "utcnow", "today"}
"""Names of functions and methods that give the time of day; gevent's loop.now() is one of them
(ev_now(3))."""


def asks(source: str) -> list[str]:
    """The calls in `source` that give the time of day."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    found = [
        ast.unparse(call.func) for call in calls if isinstance(call.func, ast.Attribute | ast.Name)
    ]
    return [name for name in found if name.rpartition(".")[2] in CLOCKS]


def test_the_search_finds_what_it_looks_for() -> None:
    assert asks("time.time(); self._loop.now(); datetime.now(); time.monotonic()") == [
        "time.time", "self._loop.now", "datetime.now"
    ]  # fmt: skip


def test_only_what_is_told_uses_the_time_of_day() -> None:
    root = Path(gworker.__file__).parent
    found = {str(path.relative_to(root)): asks(path.read_text()) for path in root.rglob("*.py")}
    users = {name: calls for name, calls in found.items() if calls}
    assert users.keys() == TOLD.keys(), users
    assert not [call for calls in users.values() for call in calls if call.endswith("loop.now")], (
        users
    )


JUMPS: dict[str, Callable[[], Iterator[float]]] = {
    "a day ahead and back": lambda: itertools.cycle([1e9, 1e9 + 86400]),
    "to 1970": lambda: itertools.chain([1e9, 1e9], itertools.repeat(0.0)),
    "always back": lambda: itertools.count(2e9, -3600.0),
}


def live(world: World) -> list[tuple[object, ...]]:
    """Everything that waits for something: back-off, boot and graceful timeout, hanging loop,
    reload."""
    world.start(declaration("a", count=2), declaration("b"))
    for _ in range(4):  # a crash loop
        world.die(world.living()[-1], 11)
        world.sleep(0.5)
    world.sleep(2)
    world.ready(*world.booting())
    world.hanging = frozenset(world.living()[:1])
    world.sleep(12)
    world.ready(*world.booting())
    world.reload()
    world.declare(declaration("a", count=2), declaration("b"))
    for _ in range(3):
        world.ready(*world.booting())
    world.sleep(40)  # processes that retire do not leave, and are killed
    world.reload()
    world.sleep(70)  # a probe that hangs
    world.signal(signal.SIGTERM)
    world.sleep(40)
    born = [(each.label, each.generation, round(each.started, 3)) for each in world.children.born]
    killed = [(each.label, each.generation, number) for each, number in world.children.signals]
    return [*born, *killed, (world.instance.state, round(world.now, 3))]


@pytest.mark.parametrize("jump", JUMPS)
def test_the_arbiter_lives_the_same_life_whatever_the_time_of_day(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, jump: str
) -> None:
    lives = []
    for number, clock in enumerate([itertools.count(1e9), JUMPS[jump]()]):
        world = World(tmp_path / str(number), timeout=3.0, graceful_timeout=10.0)
        with monkeypatch.context() as patched:
            patched.setattr("time.time", partial(next, clock))
            lives.append(live(world))
        world.close()
    steady, jumping = lives
    assert steady == jumping
    assert steady[-1][0] == "stopped"
    assert len([each for each in steady if each[-1] == signal.SIGKILL]) >= 3
