"""What is fuzzed: one function per parser. It takes any bytes, and raises if the parser does what
none may do.

None may: raise anything but ProtocolError, make something else of the same bytes when they come in
other pieces, or keep more of them than its limit allows. The same functions run under atheris
(fuzz.py, for as long as you like) and over the seeds in `make test` (tests/test_fuzz.py).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, Final

import parsers
from driving import DATE, Drive, Transcript

from gworker.protocols import NEED_DATA, PackageProtocol, Protocol, ProtocolError, get
from gworker.protocols.websocket.client import WebSocketClient
from gworker.protocols.websocket.options import compression

LIMIT: Final = 300
"""max_package_size of what is fuzzed: small, so that inputs reach it."""

HANDSHAKE: Final = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

DEFLATED: Final = HANDSHAKE.replace(
    b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
KEY: Final = b"dGhlIHNhbXBsZSBub25jZQ=="
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

drive = Drive()


class Numbered(PackageProtocol):
    """A user's framing: one digit says how many bytes follow."""

    name = "numbered"

    def package_length(self, buffer: bytes) -> int | None:
        if not buffer:
            return None
        if not buffer[:1].isdigit():
            raise ProtocolError(f"{buffer[:1]!r} is no digit")
        return 1 + int(buffer[:1])

    def decode(self, package: bytes) -> Any:
        return package[1:]

    def encode(self, message: Any) -> bytes:
        return b"%d%b" % (len(message), message)


def compressed() -> Protocol:
    """A server that agrees on permessage-deflate."""
    made = get("websocket")(LIMIT)
    made.configure({"compression": compression(True)})
    return made


def client() -> Protocol:
    """The client's end, with a key that is always the same."""
    made = WebSocketClient(LIMIT, "x", subprotocols=["chat", "other"])
    made._key = KEY
    made.data_to_send()
    return made


def pieces(data: bytes, size: int) -> list[bytes]:
    """`data` in reads of `size` bytes."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def protocol(
    make: Callable[[], Protocol], overhead: int, prefix: bytes = b"", masks: bool = False
) -> Callable[[bytes], None]:
    """The target of a protocol. overhead: bytes that one may hold besides LIMIT and one read.
    masks: at random."""

    def fuzz(data: bytes) -> None:
        # To its end: what is refused early in pieces may still be incomplete as a whole.
        sizes, data = {1, 7, 1 + data[0] % 64} if data else {1}, prefix + data[1:]
        whole = drive(make(), [data], end=True)
        for size in sorted(sizes):
            cut = drive(make(), pieces(data, size), end=True)
            if story(cut, masks) != story(whole, masks):
                raise AssertionError(
                    f"in pieces of {size}: {story(cut, masks)}, whole: {story(whole, masks)}"
                )
        held(make(), data, overhead)

    return fuzz


def story(transcript: Transcript, masks: bool) -> tuple[object, ...]:
    """What must not depend on the pieces, nor on the clock. Of two faults in one head either may be
    found first, and a peer that has sent a body with its head is not asked to go on."""
    if transcript.error:
        return [getattr(event, "name", event) for event in transcript.events], False
    said = DATE.sub(b"", transcript.output.replace(CONTINUE, b""))
    return (
        [getattr(event, "name", event) for event in transcript.events],
        True,
        len(said) if masks else said,
    )


def held(machine: Protocol, data: bytes, overhead: int) -> None:
    """Nothing that is not yet a message may grow without bound; and it can be copied at any
    time."""
    transcript = Transcript()
    for piece in pieces(data, 50):
        machine.receive_data(piece)
        if not drive.drain(machine, transcript):
            return
        size = len(pickle.dumps(machine))
        if size > LIMIT + len(piece) + overhead:
            raise AssertionError(f"it holds {size} bytes")
        copy = pickle.loads(pickle.dumps(machine))
        if copy.next_event() is not NEED_DATA:
            raise AssertionError("a copy has something to say")


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "text": protocol(lambda: get("text")(LIMIT), 300),
    "frame": protocol(lambda: get("frame")(LIMIT), 300),
    "package": protocol(lambda: Numbered(LIMIT), 300),
    "http": protocol(lambda: get("http")(LIMIT), 70_000),
    "websocket": protocol(lambda: get("websocket")(LIMIT), 600, HANDSHAKE),
    "websocket_opening": protocol(lambda: get("websocket")(LIMIT), 70_000),
    "websocket_deflate": protocol(compressed, 40_000, DEFLATED),
    "websocket_client": protocol(client, 70_000, masks=True),
    **parsers.TARGETS,
}
