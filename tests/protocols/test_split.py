"""Large messages are sent behind their head, instead of being copied: `split` and `encode` must say
the same."""

from __future__ import annotations

from typing import Any

import pytest

from gworker.http import Response
from gworker.protocols import PackageProtocol, Protocol, get
from gworker.protocols.base import LARGE
from gworker.protocols.frame import FrameProtocol
from gworker.protocols.http.protocol import HttpProtocol
from gworker.protocols.lockstep import lockstep
from gworker.protocols.websocket.deflate import Deflate
from gworker.protocols.websocket.extensions import answer_offers
from gworker.protocols.websocket.options import DEFAULT_COMPRESSION
from gworker.protocols.websocket.server import WebSocketProtocol

SIZES = (0, 1, 125, 126, 127, 16_384, 65_535, 65_536, 1_000_000)


def deflating() -> Deflate | None:
    return answer_offers("permessage-deflate", DEFAULT_COMPRESSION)[0]


def websocket(deflate: Deflate | None = None) -> WebSocketProtocol:
    return WebSocketProtocol._opened(1 << 20, False, "", deflate)


SPLITS: dict[str, Protocol] = {
    "frame": FrameProtocol(10),
    "frame in lockstep": lockstep(FrameProtocol)(10),
    "websocket": websocket(),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SPLITS)
def test_the_pieces_are_what_encode_returns(name: str, size: int) -> None:
    protocol = SPLITS[name]
    message = b"x" * size
    pieces = protocol.split(message)
    assert pieces is not None
    assert pieces[1] is message
    assert b"".join(pieces) == protocol.encode(message)


@pytest.mark.parametrize("message", [bytearray(LARGE), memoryview(bytes(LARGE)), 5, None])
@pytest.mark.parametrize("name", [*SPLITS, "http"])
def test_what_is_not_bytes_is_left_to_encode(name: str, message: Any) -> None:
    protocol = SPLITS[name] if name in SPLITS else asked(GET)
    assert protocol.split(message) is None


@pytest.mark.parametrize("name", ["tcp", "text"])
def test_others_have_none(name: str) -> None:
    assert get(name)(100).split(BODY) is None


def test_a_websocket_that_compresses_or_is_not_open_has_none() -> None:
    assert websocket(deflating()).split(BODY) is None
    assert WebSocketProtocol(100).split(BODY) is None
    closing = websocket()
    closing.close()
    assert closing.split(BODY) is None


# ---- answers of HTTP


BODY = bytes(50_000)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
REQUESTS = {
    "GET": GET,
    "POST": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    "the last": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "HTTP/1.0, keep-alive": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "an offer to upgrade": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: "
    b"websocket\r\n\r\n",
}
ANSWERS: dict[str, Any] = {
    "bytes": BODY,
    "a Response": Response(BODY),
    "a status and fields": Response(
        BODY, 404, {"X": "y", "Content-Type": "image/png", "Content-Length": "7"}
    ),
    "a Response that closes": Response(BODY, headers={"Connection": "close"}),
}


def asked(request: bytes, cls: type[HttpProtocol] = HttpProtocol) -> HttpProtocol:
    """A protocol that owes the answer to `request`."""
    protocol = cls(1 << 20)
    protocol.receive_data(request)
    protocol.next_event()
    return protocol


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_head_and_body_of_an_answer_are_what_encode_returns(request_: bytes, answer: Any) -> None:
    one, other = asked(request_), asked(request_)
    pieces = one.split(answer)
    assert pieces is not None
    assert pieces[1] is BODY
    assert b"".join(pieces) == other.encode(answer)
    assert (one.is_answering, one.next_event()) == (
        other.is_answering,
        other.next_event(),
    )  # and it is over


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (GET.replace(b"GET", b"HEAD"), BODY),
        (GET, b"short"),
        (GET, Response("x" * 50_000)),
        (GET, Response(BODY, 204)),
        (GET, Response(BODY, 304)),
        (GET, Response(BODY, 103)),
        (GET, Response.stream([BODY])),
    ],
    ids=["HEAD", "short", "str", "no content", "not modified", "interim", "stream"],
)
def test_answers_that_are_left_to_encode(request_: bytes, answer: Any) -> None:
    protocol = asked(request_)
    assert protocol.split(answer) is None
    assert protocol.is_answering


def test_what_cannot_be_an_answer_is_not_one_afterwards() -> None:
    protocol = asked(GET)
    with pytest.raises(ValueError, match="status"):
        protocol.split(Response(BODY, 999))
    assert protocol.split(BODY) is not None


def test_nothing_is_asked() -> None:
    assert HttpProtocol(100).split(BODY) is None


def test_the_request_is_still_arriving() -> None:
    protocol = asked(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
    assert protocol.split(BODY) is None
    with pytest.raises(RuntimeError, match="no request to answer"):
        protocol.encode(BODY)


# ---- protocols of users


class Reversing(FrameProtocol):
    def encode(self, message: Any) -> bytes:
        return super().encode(message[::-1])


class Mixed:
    def encode(self, message: Any) -> bytes:
        return b"mixed"


class ByMixin(Mixed, FrameProtocol):
    pass


class WithBoth(Reversing):
    def split(self, message: Any) -> tuple[bytes, bytes]:
        return b"both", message


@pytest.mark.parametrize(
    "cls", [Reversing, lockstep(Reversing), ByMixin], ids=["encode", "lockstep", "mixin"]
)
def test_a_subclass_that_encodes_in_another_way_is_asked_to_encode(cls: type[Protocol]) -> None:
    assert cls(100).split(BODY) is None


def test_a_subclass_may_give_both() -> None:
    assert WithBoth(100).split(b"x") == (b"both", b"x")


def test_packages_have_none() -> None:
    class Bare(PackageProtocol):
        def package_length(self, buffer: bytes) -> int:
            return 1

        def decode(self, package: bytes) -> bytes:
            return package

        def encode(self, message: Any) -> bytes:
            return bytes(message)

    assert Bare(100).split(BODY) is None
