"""Going on with another protocol in the middle of a connection."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import places
import pytest
from instance import wait_for
from serving import Client, Served, serve

APP = places.app("switching")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, APP) as one:
        yield one


def frame(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload) + 4) + payload


DIALOGUE = [
    (b"hello\n", b"hello\n"),
    (b"FRAME\n", b"ok\n"),
    (frame(b"one\n"), frame(b"one\n")),
    (frame(b"TEXT"), frame(b"ok")),
    (b"again\n", b"again\n"),
    (b"FRAME\n", b"ok\n"),
    (frame(b""), frame(b"")),
]


@pytest.mark.parametrize("name", ["switching", "straight"])
@pytest.mark.parametrize("piece", [1, 5, 1000], ids=["bytewise", "in pieces", "whole"])
def test_bytes_behind_the_message_are_the_new_protocols(
    served: Served, name: str, piece: int
) -> None:
    """All of it at once, so that much is read before the first handler is called; and the end right
    behind it."""
    said, answers = (b"".join(each) for each in zip(*DIALOGUE, strict=True))
    with Client(served, name) as client:
        for start in range(0, len(said), piece):
            client.send(said[start : start + piece])
        client.finish()
        assert client.rest() == answers


def test_a_class_and_an_instance(served: Served) -> None:
    with Client(served, "switching") as client:
        client.send(b"PAIR\nabcdXXback\nOWN\nef")
        assert client.exactly(14) == b"ok\nabcdokback\n"
        assert client.exactly(5) == b"ok\nef"


def test_what_arrives_while_the_handler_runs(served: Served) -> None:
    with Client(served, "switching") as client:
        client.send(b"slow\n" + frame(b"one"))
        time.sleep(0.05)
        client.send(frame(b"two") + frame(b"three")[:5])
        time.sleep(0.05)
        client.send(frame(b"three")[5:])
        expected = b"slow\n" + frame(b"one") + frame(b"two") + frame(b"three")
        assert client.exactly(len(expected)) == expected


def test_what_looks_like_a_message_of_the_old_protocol_while_the_handler_runs(
    served: Served,
) -> None:
    with Client(served, "switching") as client:
        client.send(b"slow\n")
        time.sleep(0.05)
        client.send(frame(b"o\nne"))
        time.sleep(0.05)
        client.send(frame(b"two\n") + frame(b"\nthree"))
        client.finish()
        assert client.rest() == b"slow\n" + frame(b"o\nne") + frame(b"two\n") + frame(b"\nthree")


def test_from_outside_a_handler(served: Served) -> None:
    """A part of a message that is here is the new protocol's, too."""
    with Client(served, "switching") as client:
        client.send(b"LATER\n" + frame(b"part")[:6])
        time.sleep(0.2)
        client.send(frame(b"part")[6:])
        assert client.exactly(8) == frame(b"part")


def test_where_messages_are_decoded_ahead_it_is_refused(served: Served) -> None:
    with Client(served, "ahead") as client:
        client.send("x\n")
        assert "switch() needs Worker(..., lockstep=True)" in client.line()


def test_an_unknown_name_costs_the_connection(served: Served) -> None:
    with Client(served, "switching") as client:
        client.send("NONE\n")
        assert client.rest() == b"ok\n"
    served.wait_log("unknown protocol 'nosuch'")


def test_a_switched_connection_moves(served: Served) -> None:
    """In the middle of a frame, and of a line; the successor can switch back."""
    with Client(served, "switching") as client, Client(served, "switching") as other:
        client.send(b"FRAME\n")
        assert client.line() == "ok"
        client.send(frame(b"pid")[:5])
        other.send(b"PAIR\n")
        assert other.line() == "ok"
        before = served.row("switching")["pid"]
        assert served.reload()["exit"] == 0
        wait_for(
            lambda: [row["pid"] for row in served.workers("switching")] != [before], "replaced"
        )
        client.send(frame(b"pid")[5:] + frame(b"TEXT") + b"back\n")
        size = struct.unpack(">I", client.exactly(4))[0] - 4
        assert int(client.exactly(size)) != before
        assert client.exactly(11) == frame(b"ok") + b"back\n"
        other.send(b"zzXXline\n")
        assert other.exactly(9) == b"zzokline\n"
