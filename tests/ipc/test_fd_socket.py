"""Data with descriptors: both arrive, none leaks, and nonsense is refused."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from gworker.ipc import fd_socket

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=[socket.SOCK_STREAM, socket.SOCK_SEQPACKET], ids=["stream", "seqpacket"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, request.param)
    with ours, theirs:
        yield ours, theirs


class Pipe:
    """Its end of file shows that no copy of the writing end is open."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def is_closed(self) -> bool:
        os.close(self.writer)
        os.set_blocking(self.reader, False)
        try:
            return os.read(self.reader, 1) == b""
        except BlockingIOError:
            return False


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    os.close(made.reader)


def test_data_and_descriptors_arrive_and_are_not_inherited(pair: Pair) -> None:
    ours, theirs = pair
    assert fd_socket.send(ours, b"data", [0, 1]) == 4
    data, copies = fd_socket.receive(theirs, 100)
    assert (data, len(copies)) == (b"data", 2)
    for copy, original in zip(copies, (0, 1), strict=True):
        assert os.path.samestat(os.fstat(copy), os.fstat(original))
        assert not os.get_inheritable(copy)
        os.close(copy)


def test_data_alone(pair: Pair) -> None:
    fd_socket.send(pair[0], b"data")
    assert fd_socket.receive(pair[1], 100) == (b"data", [])


def test_more_descriptors_than_are_expected_do_not_leak(pair: Pair, pipe: Pipe) -> None:
    fd_socket.send(pair[0], b"data", [pipe.writer] * 20)
    _, copies = fd_socket.receive(pair[1], 100, 4)
    for copy in copies:
        os.close(copy)
    assert pipe.is_closed()


def test_what_was_sent_before_a_reset_is_received(pair: Pair) -> None:
    """The peer has died with something unread: ECONNRESET comes first (unix(7))."""
    ours, theirs = pair
    fd_socket.send(ours, b"unread")
    fd_socket.send(theirs, b"last message")
    theirs.close()
    assert fd_socket.receive(ours, 100) == (b"last message", [])
    assert fd_socket.receive(ours, 100) == (b"", [])


def test_messages(pair: Pair) -> None:
    ours, theirs = pair
    fd_socket.send_message(ours, {"a": [1, "ä"]}, [0])
    message, (copy,) = fd_socket.receive_message(theirs, 100)
    assert message == {"a": [1, "ä"]}
    os.close(copy)
    ours.close()
    assert fd_socket.receive_message(theirs, 100) == (None, [])


@pytest.mark.parametrize("data", [b"[]", b"3", b"{", b"\xff", b"[" * 90_000])
def test_what_is_no_object_is_refused_and_its_descriptors_are_closed(
    pair: Pair, pipe: Pipe, data: bytes
) -> None:
    fd_socket.send(pair[0], data, [pipe.writer])
    with pytest.raises(ValueError, match="no message"):
        fd_socket.receive_message(pair[1], 100_000)
    assert pipe.is_closed()


def test_descriptors_of_an_empty_message_do_not_leak(pipe: Pipe) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        fd_socket.send(ours, b"", [pipe.writer])
        with pytest.raises(ValueError, match="no message"):
            fd_socket.receive_message(theirs, 100)
    assert pipe.is_closed()
