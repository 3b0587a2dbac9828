"""Clients of `apps/under_faults.py` that publish and check numbers while something fails: each call
ends within 2 s, connections stay, and `on_gap` and `recovered` tell the truth."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any

import places
from instance import DEADLINE, wait_for
from line_clients import LineClient
from serving import Served

APP = places.app("under_faults")

MAX_CALL = 2.2
MAX_RETURN = 5.0
TRAFFIC = ("kept", "fleeting")


class Peer(LineClient):
    """A client of the app. What it has received has the time of its arrival."""

    def arrived(self, message: dict[str, Any]) -> dict[str, Any]:
        return {**message, "came": time.time()}

    def ask(self, *words: Any) -> dict[str, Any]:
        """The answer to a call."""
        before = len(self.answers)
        self.send(words)
        wait_for(lambda: len(self.answers) > before or self.has_ended, f"an answer to {words}")
        assert not self.has_ended, words
        answer = self.answers[before]
        assert answer["took"] < MAX_CALL, (words, answer)
        return answer

    @property
    def answers(self) -> list[dict[str, Any]]:
        return [each for each in list(self.got) if "did" in each]

    @property
    def gaps(self) -> list[dict[str, Any]]:
        return [each for each in list(self.got) if "gap" in each]

    @property
    def states(self) -> list[str]:
        """What the states of the broker were that its process was told of."""
        return [each["state"] for each in list(self.got) if "state" in each]

    @property
    def numbers(self) -> list[int]:
        return [each["n"] for each in list(self.got) if "n" in each]


class Load:
    """A client that publishes numbers in a group. taken: those that were certainly published, and
    when."""

    def __init__(self, app: Served, group: str) -> None:
        self.peer = Peer(app)
        self.taken: dict[int, float] = {}
        self.failures: list[dict[str, Any]] = []
        self.problem: BaseException | None = None
        self._group = group
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._publish, daemon=True)
        self._thread.start()

    def _publish(self) -> None:
        number = 0
        try:
            while not self._is_over.is_set():
                message = [number] if self._group.startswith("kept") else {"n": number}
                began = time.time()
                answer = self.peer.ask("publish", self._group, message)
                if "down" in answer or "refused" in answer:
                    self.failures.append(answer)
                else:
                    self.taken[number] = began
                number += 1
                time.sleep(0.003)
        except BaseException as problem:
            self.problem = problem

    def end(self) -> None:
        self._is_over.set()
        self._thread.join(DEADLINE)
        self.peer.close()
        if self.problem is not None:
            raise self.problem


class Crowd:
    """Members of two groups under load, over all processes."""

    def __init__(self, app: Served, name: str, ends: ExitStack) -> None:
        self.app = app
        self.groups = [f"{kind} {name}" for kind in TRAFFIC]
        self.seen = f"seen {name}"
        self.states: set[str] = set()  # that `messages.state` has had
        self.members = {
            group: [self._member(group, ends) for _ in range(4)] for group in self.groups
        }
        self.others = [ends.enter_context(closing(Peer(app))) for _ in range(3)]
        self.loads = {group: Load(app, group) for group in self.groups}
        wait_for(lambda: all(len(load.taken) > 20 for load in self.loads.values()), "load")

    def _member(self, group: str, ends: ExitStack) -> Peer:
        peer = ends.enter_context(closing(Peer(self.app)))
        peer.ask("join", group, None)
        peer.ask("enter", self.seen)
        return peer

    def use(self, seconds: float) -> None:
        """Call all kinds of things in the meantime: each has its bound."""

        def calls(peer: Peer, words: list[tuple[Any, ...]]) -> None:
            until = time.monotonic() + seconds
            try:
                while time.monotonic() < until:
                    self.states.add(peer.ask("state")["result"])
                    for each in words:
                        peer.ask(*each)
                    time.sleep(0.02)
            except BaseException as error:
                problems.append(error)

        problems: list[BaseException] = []
        words: list[list[tuple[Any, ...]]] = [
            [("join", "other", None), ("leave", "other"), ("bind", "anna"), ("get", "k")],
            [("count", self.seen), ("members", self.seen), ("history", self.groups[0])],
            [("set", "k", 1), ("join", self.groups[0], "x"), ("send", "aaaaaaaaaaaaa.1", "x")],
        ]
        threads = [
            threading.Thread(target=calls, args=(peer, some))
            for peer, some in zip(self.others, words, strict=True)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        if problems:
            raise problems[0]

    def wait_whole(self) -> None:
        """Until every call works, and every member gets what is published from now on."""
        began = time.time()
        wait_for(
            lambda: (
                all(self._is_delivered(group, began) for group in self.groups)
                and self.others[0].ask("count", self.seen).get("result") == 8
                and all(peer.ask("state")["result"] == "up" for peer in self.others)
            ),
            "whole traffic, 8 members, and a broker that is up",
            MAX_RETURN,
        )

    @property
    def peers(self) -> list[Peer]:
        return [*(peer for each in self.members.values() for peer in each), *self.others]

    def was_told(self, state: str) -> bool:
        """All processes have been told of that state, and answer with it when they are asked."""
        return state in self.states and all(state in peer.states for peer in self.peers)

    def knows_that_it_is_up(self) -> bool:
        """No process was told of another state later."""
        return all(peer.states[-1:] in ([], ["up"]) for peer in self.peers)

    def _is_delivered(self, group: str, since: float) -> bool:
        fresh = [n for n, when in list(self.loads[group].taken.items()) if when > since]
        last = [peer.numbers[-1:] for peer in self.members[group]]
        return bool(fresh) and all(each >= fresh[:1] for each in last)

    def failures(self) -> list[dict[str, Any]]:
        """What publishers were answered that could not publish."""
        return [each for load in self.loads.values() for each in load.failures]

    def last_message(self) -> dict[str, Any]:
        """The last one that a member of the recoverable group has had until now."""
        got = list(self.members[self.groups[0]][0].got)
        return next(each for each in reversed(got) if "n" in each)

    def end(self, groups: Sequence[str] = (), whole: Sequence[str] = ()) -> None:
        """Stop the load; look at what was received in these groups, or in all. whole: those whose
        members have missed nothing, and were not told that they may have."""
        for load in self.loads.values():
            load.end()
        for group in groups or self.groups:
            load = self.loads[group]
            last = max(load.taken)
            for peer in self.members[group]:
                wait_for(lambda: peer.numbers and peer.numbers[-1] >= last, "the last")
                assert not peer.has_ended
                self._check(peer, group, load)
                if group in whole:
                    assert set(peer.numbers) >= set(load.taken), group
                    assert not any(group in gap["gap"] for gap in peer.gaps), group

    def _check(self, peer: Peer, group: str, load: Load) -> None:
        numbers = peer.numbers
        assert numbers == sorted(set(numbers)), (group, "order")
        missing = [n for n in load.taken if n not in set(numbers)]
        gaps = [gap for gap in peer.gaps if group in gap["gap"]]
        for number in missing:
            when = load.taken[number]
            assert any(gap["since"] - 0.5 <= when <= gap["until"] + 0.1 for gap in gaps), (
                group,
                number,
                when,
                gaps,
                missing,
            )

    def check_return(self, position: str, after: int, group: str) -> bool:
        """A client comes back with its position. Whether it is recovered, which is the truth."""
        with closing(Peer(self.app)) as peer:
            answer = peer.ask("join", group, position)
            taken = [n for n in self.loads[group].taken if n > after]
            if answer["recovered"]:
                wait_for(lambda: set(peer.numbers) >= set(taken), "all that was missed")
            return bool(answer["recovered"])
