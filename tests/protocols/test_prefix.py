"""What large messages are sent behind, instead of being copied: `prefix` and `encode` must say the same."""

from __future__ import annotations

from typing import Any

import pytest

from gworker.protocols import PackageProtocol, Protocol, get
from gworker.protocols.frame import FrameProtocol
from gworker.protocols.lockstep import lockstep
from gworker.protocols.websocket import WebSocketProtocol, _open
from gworker.protocols.websocket_deflate import Deflate
from gworker.protocols.websocket_extensions import answer_offers
from gworker.protocols.websocket_options import DEFAULT_COMPRESSION

SIZES = (0, 1, 125, 126, 127, 16_384, 65_535, 65_536, 1_000_000)


def deflating() -> Deflate | None:
    return answer_offers("permessage-deflate", DEFAULT_COMPRESSION)[0]


def websocket(deflate: Deflate | None = None) -> WebSocketProtocol:
    return _open(1 << 20, False, "", deflate)


PREFIXED: dict[str, Protocol] = {
    "frame": FrameProtocol(10),
    "frame in lockstep": lockstep(FrameProtocol)(10),
    "websocket": websocket(),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PREFIXED)
def test_prefix_and_message_are_what_encode_returns(name: str, size: int) -> None:
    protocol = PREFIXED[name]
    message = b"x" * size
    prefix = protocol.prefix(message)
    assert prefix is not None
    assert prefix + message == protocol.encode(message)


@pytest.mark.parametrize("name", ["tcp", "text", "http"])
def test_others_have_none(name: str) -> None:
    assert get(name)(100).prefix(b"x" * 50_000) is None


def test_a_websocket_that_compresses_or_is_not_open_has_none() -> None:
    assert websocket(deflating()).prefix(b"x" * 50_000) is None
    assert WebSocketProtocol(100).prefix(b"x" * 50_000) is None
    closing = websocket()
    closing.close()
    assert closing.prefix(b"x" * 50_000) is None


class Reversing(FrameProtocol):
    def encode(self, message: Any) -> bytes:
        return super().encode(message[::-1])


class Mixed:
    def encode(self, message: Any) -> bytes:
        return b"mixed"


class ByMixin(Mixed, FrameProtocol):
    pass


class WithBoth(Reversing):
    def prefix(self, message: bytes) -> bytes:
        return b"both"


@pytest.mark.parametrize("cls", [Reversing, lockstep(Reversing), ByMixin], ids=["encode", "lockstep", "mixin"])
def test_a_subclass_that_encodes_in_another_way_is_asked_to_encode(cls: type[Protocol]) -> None:
    assert cls(100).prefix(b"x" * 50_000) is None


def test_a_subclass_may_give_both() -> None:
    assert WithBoth(100).prefix(b"x") == b"both"


def test_packages_have_none() -> None:
    class Bare(PackageProtocol):
        def encode(self, message: Any) -> bytes:
            return bytes(message)

    assert Bare(100).prefix(b"x") is None
