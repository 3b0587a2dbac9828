"""Recoverable groups while clients come back, and while the process of the broker is killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import places
import psutil
import pytest
from instance import DEADLINE, wait_for
from line_clients import LineClient
from serving import Served, serve

pytestmark = pytest.mark.timeout(120)

APP = places.app("recovering")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, APP, "-w", "3") as one:
        yield one


class Peer(LineClient):
    """A client of the app."""

    def ask(self, *words: Any) -> None:
        self.send(words)

    def wait(self, of: Callable[[dict[str, Any]], Any], seconds: float = DEADLINE) -> Any:
        """The first that `of` takes, of all that has come and comes."""
        wait_for(lambda: any(map(of, list(self.got))), "an answer", seconds)
        return next(each for each in self.got if of(each))

    def join(self, group: str, since: str | None = None) -> dict[str, Any]:
        self.ask("join", group, since)
        answer: dict[str, Any] = self.wait(lambda each: "joined" in each)
        return answer

    @property
    def messages(self) -> list[int]:
        return [each["message"][0] for each in list(self.got) if "message" in each]


class Load:
    """A client that publishes numbers. taken: those of which it is known."""

    def __init__(self, app: Served, group: str) -> None:
        self.peer = Peer(app)
        self.group = group
        self.number = 0
        self.taken: list[int] = []
        self.times: list[float] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._publish, daemon=True)
        self._thread.start()

    def _publish(self) -> None:
        while not self._is_over.is_set():
            before = len(self.peer.got)
            self.peer.ask("publish", self.group, [self.number])
            wait_for(lambda: len(self.peer.got) > before, "an answer")
            answers = [each for each in self.peer.got[before:] if "gap" not in each]
            if any("published" in each for each in answers):
                self.taken.append(self.number)
                self.times.append(time.monotonic())
            self.number += 1
            time.sleep(0.002)

    def end(self) -> None:
        self._is_over.set()
        self._thread.join(DEADLINE)
        self.peer.close()


def test_clients_that_come_back_while_others_publish(app: Served) -> None:
    first = Peer(app)
    at = first.join("kept 1")["at"]
    load = Load(app, "kept 1")
    seen: list[int] = []
    for _ in range(25):
        one = Peer(app)
        assert one.join("kept 1", at)["joined"] is True
        time.sleep(0.03)
        one.close()
        kept = [each for each in one.got if "message" in each]
        at = kept[-1]["at"] if kept else at
        seen += [each["message"][0] for each in kept]
    load.end()
    with closing(Peer(app)) as last:
        assert last.join("kept 1", at)["joined"] is True
        wait_for(lambda: (seen + last.messages)[-1:] == load.taken[-1:], "the last message")
        seen += last.messages
    assert seen == load.taken
    wait_for(lambda: first.messages == load.taken, "all of them")
    assert not any("gap" in each for each in first.got)
    first.close()


def test_the_broker_is_killed_while_clients_publish(app: Served) -> None:
    members = [Peer(app) for _ in range(12)]
    for each in members:
        each.join("kept 2")
    load = Load(app, "kept 2")
    for _ in range(2):
        time.sleep(0.5)
        psutil.Process(app.status()["broker"]["pid"]).kill()
        killed_at = time.monotonic()
        wait_for(lambda: load.times and load.times[-1] > killed_at, "publishing again")
        assert next(each for each in load.times if each > killed_at) - killed_at < 1.5
        time.sleep(0.5)
    load.end()
    for each in members:
        wait_for(lambda: each.messages[-1:] == load.taken[-1:], "the last message")
        assert not each.has_ended
        got = each.messages
        assert got == sorted(set(got))
        gaps = sum("gap" in one for one in each.got)
        assert set(got) >= set(load.taken) or gaps
        assert gaps <= 2
    late = members[0].got[-1]["at"]
    with closing(Peer(app)) as one:
        assert one.join("kept 2", late)["joined"] is True
        old = next(each["at"] for each in members[0].got if "message" in each)
    with closing(Peer(app)) as two:
        assert two.join("kept 2", old)["joined"] is False
        assert two.messages == []
    for each in members:
        each.close()
