"""Messages to many connections: which get them, how often they are encoded, and which wait."""

from __future__ import annotations

from typing import Any

from gworker.messages import delivery
from gworker.messages.delivery import CHUNK, Delivery


class Member:
    accepts_unsolicited = True
    is_opening = False
    is_full = False
    encoding: Any = "one"
    protocol = "p"

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.got: list[Any] = []
        self.code = 0

    def encode(self, content: Any) -> bytes:
        self.log.append(content)
        if content == "bad":
            raise ValueError("bad")
        return content.encode() if isinstance(content, str) else bytes(content)

    def send(self, data: Any, raw: bool = False) -> bool:
        if data in (b"explodes", "explodes"):
            raise RuntimeError
        self.got.append(data)
        return True

    def close(self, code: int) -> None:
        self.code = code


class Made:
    def __init__(self) -> None:
        self.pauses = 0
        self.reports: list[str] = []
        self.encodings: list[Any] = []
        self.delivery = Delivery(self.pause, lambda text, *_: self.reports.append(text))

    def pause(self) -> None:
        self.pauses += 1

    def members(self, count: int, **fields: Any) -> list[Any]:
        made = [Member(self.encodings) for _ in range(count)]
        for each in made:
            for name, value in fields.items():
                setattr(each, name, value)
        return made


def test_it_is_encoded_once_for_those_that_encode_alike() -> None:
    made = Made()
    members = [
        *made.members(200),
        *made.members(200, encoding="other"),
        *made.members(3, encoding=None),
    ]
    made.delivery.deliver("x", members, "drop")
    assert made.encodings == ["x", "x"]
    assert [each.got for each in members] == [[b"x"]] * 400 + [["x"]] * 3
    assert (made.delivery.delivered, made.delivery.dropped) == (403, 0)


def test_those_that_are_full() -> None:
    made = Made()
    (full,) = made.members(1, is_full=True)
    members = [full, *made.members(1)]
    made.delivery.deliver("x", members, "drop")
    assert (full.got, full.code) == ([], 0)
    made.delivery.deliver("x", members, "close")
    assert full.code == 1013
    assert (made.delivery.delivered, made.delivery.dropped) == (2, 2)


def test_those_that_end_and_those_that_open() -> None:
    made = Made()
    (ends,) = made.members(1, accepts_unsolicited=False)
    (opens,) = made.members(1, accepts_unsolicited=False, is_opening=True, encoding=None)
    made.delivery.deliver("x", [ends, opens], "drop")
    assert (ends.got, opens.got) == ([], ["x"])
    assert (made.delivery.delivered, made.delivery.dropped) == (1, 0)


def test_what_fails_costs_no_other(caplog: Any) -> None:
    made = Made()
    members = made.members(3)
    for content in ("bad", "bad", "explodes", "good"):
        made.delivery.deliver(content, members, "drop")
    assert made.encodings == ["bad", "bad", "explodes", "good"]
    assert [each.got for each in members] == [[b"good"]] * 3
    assert len(caplog.records) == 1, "logged once"
    assert len(made.reports) == 3
    assert (made.delivery.delivered, made.delivery.dropped) == (3, 9)


def test_others_have_their_turn(monkeypatch: Any) -> None:
    clock = [0.0]

    def now() -> float:
        clock[0] += 0.002
        return clock[0]

    monkeypatch.setattr(delivery.time, "monotonic", now)
    made = Made()
    members = made.members(10 * CHUNK)
    gone = set(members[-CHUNK:])

    def pause() -> None:
        made.pauses += 1
        still.difference_update(gone)

    made.delivery = Delivery(pause, print)
    still = set(members)
    made.delivery.deliver("x", members, "drop", still)
    assert made.pauses == 3, "each 5 ms"
    assert all(each.got == ([] if each in gone else [b"x"]) for each in members)
    for _ in range(9):
        made.delivery.deliver("x", members[:1], "drop")
    assert made.pauses > 5, "what many small messages take counts, too"
