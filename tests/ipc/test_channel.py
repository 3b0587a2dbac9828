"""The line between the arbiter and a child: whole messages, descriptors, and an end that is
heard."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from gworker.ipc.channel import MAX_MESSAGE, MAX_TEXT, Channel, pair


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_messages_stay_whole_and_in_order(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    assert theirs.send({"event": "one"})
    assert theirs.send({"event": "two", "n": 2})
    assert ours.receive() == ({"event": "one"}, [])
    assert ours.receive() == ({"event": "two", "n": 2}, [])


def test_both_directions(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    assert ours.send({"do": "retire"})
    assert theirs.receive()[0] == {"do": "retire"}


def test_no_message_yet(ends: tuple[Channel, Channel]) -> None:
    with pytest.raises(BlockingIOError):
        ends[0].receive()


def test_the_end_of_the_other_side_is_none_for_ever(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    theirs.send({"event": "last"})
    theirs.close()
    assert ours.receive()[0] == {"event": "last"}
    assert ours.receive() == (None, [])
    assert ours.receive() == (None, [])
    assert not ours.send({"do": "quit"})


def test_an_end_with_messages_unread_is_an_end(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    ours.send({"do": "quit"})
    theirs.close()
    assert ours.receive() == (None, [])


def test_long_texts_keep_their_end(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    assert theirs.send({"event": "failed", "traceback": "x" * 100_000 + "the end"})
    message, _ = ours.receive()
    assert message is not None
    assert len(message["traceback"]) == MAX_TEXT
    assert message["traceback"].endswith("the end")


@pytest.mark.parametrize("text", ["\x00", "雪", "\U0001f600", "\udcff", '"'])
def test_texts_that_json_makes_longer_arrive_too(ends: tuple[Channel, Channel], text: str) -> None:
    ours, theirs = ends
    assert theirs.send({"event": "failed", "reason": text * 50_000, "traceback": text * 50_000})
    message, _ = ours.receive()
    assert message == {"event": "failed", "reason": text * MAX_TEXT, "traceback": text * MAX_TEXT}


def test_whatever_the_kernel_lets_through_is_received_whole(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    size = MAX_MESSAGE
    while not theirs.send({"workers": [0] * (size // 3)}):
        size = size * 9 // 10
    assert size > 64 * 1024
    message, _ = ours.receive()
    assert message == {"workers": [0] * (size // 3)}


def test_what_is_too_big_is_refused_not_cut(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    assert not theirs.send({"workers": list(range(10**6))})
    with pytest.raises(BlockingIOError):
        ours.receive()


def test_a_reader_that_does_not_read_stops_no_sender(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    sent = 0
    while ours.send({"do": "reload", "padding": "x" * 1000}):
        sent += 1
        assert sent < 100_000
    for _ in range(sent):
        theirs.receive()
    assert ours.send({"do": "quit"})
    assert theirs.receive()[0] == {"do": "quit"}


def test_descriptors_go_with_their_message(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    reader, writer = os.pipe()
    assert theirs.send({"event": "connections"}, [writer])
    os.close(writer)
    message, (copy,) = ours.receive()
    assert message == {"event": "connections"}
    assert not os.get_inheritable(copy)
    os.write(copy, b"through")
    os.close(copy)
    assert os.read(reader, 100) == b"through"
    assert os.read(reader, 100) == b"", "a copy was left open"
    os.close(reader)


@pytest.mark.parametrize("data", [b"{", b"[]", b"3", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_message_is_an_error_and_leaks_no_descriptor(
    ends: tuple[Channel, Channel], data: bytes
) -> None:
    ours, theirs = ends
    reader, writer = os.pipe()
    import array
    import socket

    raw = socket.socket(fileno=os.dup(theirs.fileno()))
    raw.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writer]))])
    raw.close()
    os.close(writer)
    with pytest.raises(ValueError, match="no message"):
        ours.receive()
    assert os.read(reader, 1) == b""
    os.close(reader)
    theirs.send({"event": "ready"})
    assert ours.receive()[0] == {"event": "ready"}
