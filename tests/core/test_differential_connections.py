"""A connection with the compiled core and one with the core in Python do the same with the same
reads, whatever their handlers do meanwhile."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import gevent
import pytest
from gevent.event import Event
from hypothesis import given, settings
from hypothesis import strategies as st
from pure import using
from served import CORES, Far, Served
from websocket_bytes import closing, frame, handshake

pytestmark = pytest.mark.skipif("compiled" not in CORES, reason="the core in Python runs")

LIMIT = 96
"""Bytes of a package."""

MUCH = 400_000
"""More than the kernel takes at once."""


# ---- what handlers do, by the first letter of what has come


class Conversation:
    """One connection: `told` is what its callbacks have heard. release: goes on with a handler
    that waits, and resumes reading."""

    def __init__(self, served: Served, protocol: str) -> None:
        self.told: list[Any] = []
        self.served = served
        self.event = Event()
        self.far: Far = served.connect(
            protocol,
            on_connect=lambda c: self.told.append("connect"),
            on_message=self.answer,
            on_close=lambda c: self.told.append("close"),
            on_error=lambda c, code, message: self.told.append((int(code), message)),
            on_buffer_full=lambda c: self.told.append("full"),
            on_buffer_drain=lambda c: self.told.append("drain"),
        )
        self.far.connection.max_send_buffer_size = 100_000

    def answer(self, connection: Any, message: Any) -> Any:
        content = message
        if hasattr(message, "path"):
            content = message.path[1:] + message.body.decode("latin-1")
            self.told.append((message.method, message.target, message.body))
        else:
            self.told.append((type(message).__name__, message))
        letter = content[:1] if isinstance(content, str) else chr((content or b"-")[0])
        action = getattr(self, f"do_{letter}", None)
        if action is None:
            connection.send(message if content is message else "ok")
            return None
        result = action(connection, content)
        self.told.append("done")
        return result

    def do_r(self, connection: Any, content: Any) -> Any:
        return "returned"

    def do_n(self, connection: Any, content: Any) -> Any:
        return None

    def do_c(self, connection: Any, content: Any) -> Any:
        connection.close()

    def do_C(self, connection: Any, content: Any) -> Any:
        connection.close("bye")

    def do_d(self, connection: Any, content: Any) -> Any:
        connection.destroy()

    def do_p(self, connection: Any, content: Any) -> Any:
        connection.pause_recv()
        return "paused"

    def do_m(self, connection: Any, content: Any) -> Any:
        for _ in range(2):
            self.told.append(connection.send("m" * MUCH))

    def do_l(self, connection: Any, content: Any) -> Any:
        connection.send(b"l" * 20_000)

    def do_s(self, connection: Any, content: Any) -> Any:
        self.told.append((connection.send("one"), connection.send(b"two"), connection.send("\xe9")))

    def do_w(self, connection: Any, content: Any) -> Any:
        self.told.append(connection.send(b"raw", raw=True))

    def do_x(self, connection: Any, content: Any) -> Any:
        raise ZeroDivisionError

    def do_q(self, connection: Any, content: Any) -> Any:
        raise self.served.loaded.errors.RequestError("no")

    def do_e(self, connection: Any, content: Any) -> Any:
        raise SystemExit

    def do_u(self, connection: Any, content: Any) -> Any:
        connection.send("\ud800")

    def do_t(self, connection: Any, content: Any) -> Any:
        connection.send(5)

    def do_T(self, connection: Any, content: Any) -> Any:
        connection.send(bytearray(b"bytearray"))

    def do_b(self, connection: Any, content: Any) -> Any:
        self.event.wait()
        return "waited"

    def do_B(self, connection: Any, content: Any) -> Any:
        connection.send("before")
        self.event.wait()
        connection.send("after")

    def do_z(self, connection: Any, content: Any) -> Any:
        gevent.sleep(0)
        connection.send("slept")

    def do_a(self, connection: Any, content: Any) -> Any:
        gevent.spawn(connection.send, "another")

    # ---- the driver

    def release(self) -> None:
        self.event.set()
        self.event.clear()
        connection = self.far.connection
        if connection.status != "closed":
            connection.resume_recv()

    def settle(self) -> None:
        """Let all run that can."""
        context, quiet, before = self.served.context, 0, None
        while quiet < 4 or context.run_queue.is_busy:
            gevent.sleep(1e-6)  # of 0 the event loop would not look at its sockets
            now = len(self.told), context.bytes_read, context.bytes_written, context.pool.active
            quiet = quiet + 1 if now == before else 0
            before = now


KERNEL = 100_000
"""Bytes that a socket takes though nothing is read."""

DATE = re.compile(rb"Date: [^\r]*")


def said(served: Served, protocol: str, steps: list[Any], options: dict[str, Any]) -> Any:
    """What a connection does in these steps: bytes that come, or what the driver does."""
    context = served.context
    with using(served.loaded):
        before = served.counters()
        context.batch = options["batch"]
        conversation = Conversation(served, protocol)
        if options["is_watched"]:
            context.on_job_end = lambda c: conversation.told.append("job ends")
            context.holder = Holder(conversation.told)
        conversation.settle()
        far = conversation.far
        states = []
        room = KERNEL  # a handler that waits may hold back all of it
        for step in steps:
            if isinstance(step, bytes):
                with suppress(OSError):
                    far.send(step[:room])
                room -= len(step[:room])
            elif step == "release":
                conversation.release()
            elif step == "take":
                far.read()
            elif step == "end":
                with suppress(OSError):
                    far.socket.shutdown(1)
            conversation.settle()
            connection = far.connection
            states.append((len(conversation.told), connection.status, connection.send_queue))
        for _ in range(40):  # a handler may wait once more
            conversation.release()
            far.read()
            conversation.settle()
        io = far.connection.io
        output, ended = DATE.sub(b"", far.got), far.ended
        counted = io.bytes_read, io.bytes_written, far.connection.status
        context.on_job_end = context.holder = None
        served.hang_up(far)
        conversation.settle()
        counters = {name: now - before[name] for name, now in served.counters().items()}
    return conversation.told, states, output, ended, counted, counters


class Holder:
    def __init__(self, told: list[Any]) -> None:
        self.told = told

    def hold(self, connection: Any) -> None:
        self.told.append("hold")


@pytest.fixture(scope="module")
def both() -> Iterator[list[Served]]:
    log = logging.getLogger("gworker")
    log.disabled = True
    made = []
    for loaded in CORES.values():
        with using(loaded):
            made.append(Served(loaded, max_package_size=LIMIT))
    yield made
    for each in made:
        with using(each.loaded):
            each.close()
    log.disabled = False


# ---- what comes

LETTERS = "abcdelmnpqrstuwxzBCT-"

content = st.builds(
    lambda letter, rest: (letter + rest).encode(),
    st.sampled_from(LETTERS),
    st.sampled_from(["", "", "1", "\xe9", "x" * 60, "x" * LIMIT]),
)
one_in_four = st.sampled_from([True, False, False, False])
cuts = st.lists(st.integers(0, 400), max_size=3)


def texts(draw: st.DrawFn) -> bytes:
    ends = st.sampled_from([b"\n", b"\n", b"\r\n", b"\xff\n", b""])
    return draw(content) + draw(ends)


def frames(draw: st.DrawFn) -> bytes:
    body = draw(content)
    size = len(body) + 4
    if draw(one_in_four):
        size = draw(st.sampled_from([0, 3, 4, LIMIT, LIMIT + 1, 1 << 31]))
    return size.to_bytes(4) + body


def websockets(draw: st.DrawFn) -> bytes:
    body = draw(content)
    first = draw(st.sampled_from([0x81, 0x81, 0x82, 0x01, 0x80, 0x89, 0x8A]))
    if not draw(one_in_four):
        return frame(first, body[:100])
    odd = [
        closing(), closing(1000, b"x"), closing(1), frame(0x88, b"1"), frame(0xC1, body),
        frame(0x81, b"\xff"), frame(0x83, body), frame(0x81, b"x" * 126),
        frame(0x82, b"x" * 70_000), b"\x81\x01a", b"\x81\xfe\x00\x01" + bytes(4) + b"a",
        frame(0x81, b"-", bytes(4)), b"\x81\x85",
    ]  # fmt: skip
    return draw(st.sampled_from(odd))


def requests(draw: st.DrawFn) -> bytes:
    path = draw(content).decode("latin-1")[:40].encode("ascii", "replace")
    body = draw(st.sampled_from([b"", b"", b"", b"abc", b"x" * (LIMIT + 1)]))
    fields = [b"Host: a"] + [b"Content-Length: %d" % len(body)] * bool(body)
    if draw(one_in_four):
        fields += draw(
            st.lists(
                st.sampled_from(
                    [
                        b"Connection: close", b"Connection: keep-alive", b"Host: b", b"X: y",
                        b"Expect: 100-continue", b"Transfer-Encoding: chunked", b"Cookie: a=b",
                        b"Content-Length: x", b" x", b"Upgrade: websocket",
                    ]
                ),
                max_size=2,
            )
        )  # fmt: skip
    method = draw(st.sampled_from([b"GET", b"GET", b"POST", b"HEAD", b"BREW"]))
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0", b"2"]))
    line = method + b" /" + path + b" HTTP/" + version
    return b"\r\n".join([line, *fields, b"", body])


MESSAGES: dict[str, Callable[[st.DrawFn], bytes]] = {
    "tcp": lambda draw: draw(content),
    "text": texts,
    "frame": frames,
    "websocket": websockets,
    "http": requests,
}


@st.composite
def conversations(draw: st.DrawFn, protocol: str) -> list[Any]:
    """Reads with no, one, a part of or several messages, and what the driver does in between."""
    steps: list[Any] = []
    if protocol == "websocket":
        extension = "permessage-deflate" if draw(one_in_four) else None
        steps.append(handshake(Sec_WebSocket_Extensions=extension))
    for _ in range(draw(st.integers(1, 4))):
        many = draw(st.sampled_from([1, 1, 1, 2, 3, 40]))
        some = [MESSAGES[protocol](draw) for _ in range(min(many, 3))]
        data = b"".join(some if many <= 3 else some * (many // 3))
        places = (
            sorted({each for each in draw(cuts) if each < len(data)}) if draw(one_in_four) else []
        )
        steps += [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
        between = st.sampled_from(["release", "take", "", ""])
        steps += [each for each in draw(st.lists(between, max_size=2)) if each]
    if draw(one_in_four):
        steps.append("end")
    return [step for step in steps if step]


options = st.fixed_dictionaries(
    {"batch": st.sampled_from([32, 32, 1, 2]), "is_watched": st.booleans()}
)


@pytest.mark.parametrize("protocol", list(MESSAGES))
def test_the_same_conversations(both: list[Served], protocol: str) -> None:
    @settings(max_examples=150, deadline=None, database=None)
    @given(conversations(protocol), options)
    def check(steps: list[Any], given_options: dict[str, Any]) -> None:
        first, second = (said(served, protocol, steps, given_options) for served in both)
        assert first == second

    check()
