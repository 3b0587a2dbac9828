"""One message at a time, and the bytes behind it for what goes on."""

from __future__ import annotations

import pickle

import pytest

from gworker.protocols import NEED_DATA, Lockstep, PackageProtocol, Protocol, get
from gworker.protocols.lockstep import lockstep


class Pair(PackageProtocol):
    """Two bytes are a message."""

    def package_length(self, buffer: bytes) -> int:
        return 2

    def decode(self, package: bytes) -> bytes:
        return package


class AlwaysPair(Lockstep, Pair):
    pass


CLASSES = [lockstep(get("text")), lockstep(get("frame")), lockstep(Pair), AlwaysPair]
ONE_TWO = {
    "text": b"one\ntwo\n",
    "frame": b"\0\0\0\7one\0\0\0\7two",
    "Pair": b"onetwo",
    "AlwaysPair": b"onetwo",
}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.name)
def test_it_is_for_the_driver_to_take_one_message_at_a_time(cls: type[Protocol]) -> None:
    one = cls(100)
    assert one.lockstep
    assert one.next_event() is NEED_DATA
    one.receive_data(ONE_TWO[cls.name])
    assert one.next_event() in ("one", b"one", b"on")
    assert one.has_pending
    assert one.next_event() in ("two", b"two", b"et")


def test_a_class_that_is_made_takes_no_more_memory() -> None:
    assert not hasattr(lockstep(get("text"))(100), "__dict__")


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.name)
@pytest.mark.parametrize("split", range(1, 10))
def test_what_is_behind_the_message_is_left(cls: type[Protocol], split: int) -> None:
    """However it arrived; also what came while the handler ran."""
    data = ONE_TWO[cls.name] + b"\xff\0rest"
    one = cls(100)
    one.receive_data(data[:split])
    event = one.next_event()
    arrived = event is not NEED_DATA
    one.receive_data(data[split:])
    if not arrived:
        event = one.next_event()
    used = {"text": 4, "frame": 7}.get(cls.name, 2)
    assert one.take_unparsed() == data[used:]
    assert one.take_unparsed() == b""


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.name)
def test_it_travels_at_any_point(cls: type[Protocol]) -> None:
    one = cls(100)
    one.receive_data(ONE_TWO[cls.name])
    first = one.next_event()
    copy = pickle.loads(pickle.dumps(one, pickle.HIGHEST_PROTOCOL))
    assert type(copy) is cls
    for each in (one, copy):
        assert each.next_event() != first
        assert each.take_unparsed() == (b"wo" if "Pair" in cls.name else b"")


def test_a_class_is_made_once_and_http_is_not_touched() -> None:
    assert lockstep(get("text")) is lockstep(get("text")) is lockstep(lockstep(get("text")))
    assert lockstep(AlwaysPair) is AlwaysPair
    assert lockstep(get("http")) is get("http")


class Closed(Protocol):
    """One that keeps its bytes to itself."""

    def receive_data(self, data: bytes) -> None:
        pass

    def next_event(self) -> object:
        return NEED_DATA


def test_a_protocol_that_cannot_be_left() -> None:
    with pytest.raises(TypeError, match=r"Closed cannot be left .* no take_unparsed\(\)"):
        Closed(10).take_unparsed()
