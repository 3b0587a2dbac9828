"""No core keeps what messages and connections are made of."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from typing import Any

import pytest
from pure import using
from served import CORES, Far, Served, until
from websocket_bytes import frame, handshake

MESSAGES = 500
FEW = 40
"""So many objects and references may come and go for other reasons."""

ONE = {
    "tcp": b"a",
    "text": b"a\n",
    "frame": b"\0\0\0\x05a",
    "websocket": frame(0x81, b"a"),
    "http": b"GET /a?b=c HTTP/1.1\r\nHost: a\r\nCookie: d=e\r\n\r\n",
}


def answer(connection: Any, message: Any) -> Any:
    """In all the ways that there are, and none."""
    count = connection.server_context.requests % 5
    if count == 0 and not hasattr(message, "path"):
        raise KeyError(count)  # it ends the connection
    if count == 1:
        connection.send("é" * 5)
    elif count == 2:
        connection.send(b"a" * 20_000)
    else:
        return "returned" if hasattr(message, "path") else None
    return None


def enter(served: Served, protocol: str) -> Far:
    far = served.connect(protocol, on_message=answer)
    if protocol == "websocket":
        far.send(handshake())
        until(far.read)
        far.got = b""
    return far


def talk(served: Served, protocol: str, messages: int) -> None:
    """Send so many, on a new connection after each that has ended."""
    context = served.context
    far, sent = enter(served, protocol), 0
    while sent < messages:
        if far.connection.status != "established":
            served.hang_up(far)
            far = enter(served, protocol)
        before = context.requests
        far.send(ONE[protocol])
        sent += 1
        until(lambda: context.requests > before)
        far.read()
        far.got = b""
    served.hang_up(far)


def settled(served: Served) -> tuple[Counter[str], list[int]]:
    """Objects by their types, and the references to those that are there for ever."""
    until(lambda: not served.context.lingerer.sockets and not served.context.is_at_work)
    gc.collect()
    state = sys.modules["gworker.connection.state"]
    shared: list[Any] = [None, True, False, b"", "", (), state.ESTABLISHED, state.CLOSED]  # type: ignore[attr-defined]
    shared += [served.context, served.context.pool, served.worker.callbacks, served.loaded.core]
    shared += [served.protocol(name) for name in ONE]
    return Counter(type(each).__name__ for each in gc.get_objects()), [
        *map(sys.getrefcount, shared)
    ]


@pytest.mark.parametrize("protocol", list(ONE))
@pytest.mark.parametrize("core", list(CORES))
def test_nothing_is_left(core: str, protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "gworker")
    with using(CORES[core]):
        served = Served(CORES[core])
        talk(served, protocol, 50)
        objects, references = settled(served)
        talk(served, protocol, MESSAGES)
        more, after = settled(served)
        grown = {
            name: more[name] - objects[name] for name in more if more[name] - objects[name] > FEW
        }
        assert not grown
        assert [b - a for a, b in zip(references, after, strict=True) if b - a > FEW] == []
        served.close()
