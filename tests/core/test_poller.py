"""Sockets that are ready, and the greenlets that serve them."""

from __future__ import annotations

import gc
import os
import select
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

import gevent
import pytest
import scenarios
from gevent import get_hub
from gevent.event import Event
from greenlet import getcurrent
from pki import Pki
from pure import using
from served import CORES, Far, Served, over_tcp, turns, until
from tls_pair import server as tls_context

NAP = 0.05
IDLE = 20
"""More often the event loop does not wake up in a `NAP` if nothing is due."""

test_scenario = scenarios.of("poller")
test_scenario_in_python = scenarios.of("poller", GWORKER_PURE="1")

Serve = Callable[..., Served]


@pytest.fixture(params=list(CORES))
def serve(request: pytest.FixtureRequest) -> Iterator[Serve]:
    """`serve(**limits)`: a service with each core."""
    made: list[Served] = []

    def one(**limits: Any) -> Served:
        made.append(Served(CORES[request.param], **limits))
        return made[-1]

    with using(CORES[request.param]):
        yield one
        for each in made:
            each.close()


@pytest.fixture
def served(serve: Serve) -> Served:
    return serve()


def burn(seconds: float) -> None:
    """Compute, as far as others can tell."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def reset(far: Far) -> None:
    """End it as a peer does that has crashed."""
    far.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.socket.close()


def over_tls(served: Served, pki: Pki) -> tuple[Any, ssl.SSLSocket]:
    """The two ends after a handshake, the far one of the standard library."""
    near, far = over_tcp()
    where = pki.directory
    options = {"certfile": str(where / "server.pem"), "keyfile": str(where / "server.key")}
    ours = served.loaded.tls_socket.TlsSocket(near, tls_context(options), server_side=True)
    far.setblocking(False)
    theirs = pki.client().wrap_socket(
        far, server_hostname="localhost", do_handshake_on_connect=False
    )
    left: list[Callable[[], None]] = [ours.handshake, theirs.do_handshake]
    while left:
        for step in list(left):
            try:
                step()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                continue
            left.remove(step)
    return ours, theirs


def collect(got: list[Any]) -> Callable[[Any, Any], None]:
    return lambda connection, message: got.append(message)


# ---- handlers that wait


def test_messages_stay_in_order_while_a_handler_sleeps(served: Served) -> None:
    running, most = 0, 0

    def answer(connection: Any, message: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if int(message) % 7 == 0:
            gevent.sleep(0.002)
        running -= 1
        connection.send(message)

    far = served.connect("text", on_message=answer)
    for first in range(0, 60, 6):
        far.send(b"".join(b"%d\n" % each for each in range(first, first + 6)))
        gevent.sleep(0.001)
    until(lambda: far.read().count(b"\n") == 60)
    assert far.got.split() == [b"%d" % each for each in range(60)]
    assert most == 1


def test_those_that_sleep_do_so_at_once_and_others_are_served(served: Served) -> None:
    def answer(connection: Any, message: str) -> None:
        gevent.sleep(0.5)
        connection.send(message)

    sleepers = [served.connect("text", on_message=answer) for _ in range(200)]
    other = served.connect("text", on_message=lambda connection, message: connection.send("now"))
    began = time.monotonic()
    for far in sleepers:
        far.send(b"a\n")
    for _ in range(10):
        other.send(b"b\n")
        gevent.sleep(0)
    until(lambda: other.read() == b"now\n" * 10)
    assert time.monotonic() - began < 0.5
    assert not any(far.read() for far in sleepers)
    until(lambda: all(far.read() for far in sleepers))
    assert time.monotonic() - began < 1.5


def test_a_context_variable_is_empty_at_each_message(served: Served) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="")
    seen: list[str] = []

    def answer(connection: Any, message: str) -> None:
        seen.append(variable.get())
        variable.set(message)
        if message == "wait":
            gevent.sleep(0.001)
            assert variable.get() == message

    fars = [served.connect("text", on_message=answer) for _ in range(4)]
    for message in (b"a\n", b"wait\n", b"b\n", b"wait\n"):
        for far in fars:
            far.send(message)
        gevent.sleep(0.005)
    fars[0].send(b"wait\n")
    fars[1].send(b"c\n")
    until(lambda: len(seen) == 18)
    assert set(seen) == {""}


@pytest.mark.parametrize("how", ["timeout", "kill"])
def test_what_is_thrown_into_a_handler_is_for_that_alone(served: Served, how: str) -> None:
    threads: list[Any] = []
    handled: list[str] = []

    def answer(connection: Any, message: str) -> None:
        if message == "victim":
            threads.append(getcurrent())
            with gevent.Timeout(0.01 if how == "timeout" else None):
                gevent.sleep(30)
        gevent.sleep(0.02)
        handled.append(message)

    victim = served.connect("text", on_message=answer)
    others = [served.connect("text", on_message=answer) for _ in range(3)]
    for far, message in zip([others[0], victim, *others[1:]], "avbc", strict=True):
        far.send(b"victim\n" if message == "v" else message.encode() + b"\n")
    until(lambda: threads)
    if how == "kill":
        gevent.kill(threads[0])
    until(lambda: victim.read() or victim.ended)
    until(lambda: len(handled) == 3)
    assert sorted(handled) == ["a", "b", "c"]
    others[0].send(b"d\n")
    until(lambda: handled[3:] == ["d"])
    assert served.counters()["EXCEPTIONS"] == 1


def test_the_frames_of_a_handler_that_waits_are_there(served: Served) -> None:
    def waits(connection: Any, message: str) -> None:
        gevent.sleep(30)

    far = served.connect("text", on_message=waits)
    far.send(b"a\n")
    until(lambda: far.connection.event_job is not None and far.connection.event_job.is_busy)
    frame, names = far.connection.event_job.greenlet.gr_frame, []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    assert "waits" in names
    assert names[-1] == "_work"
    gevent.kill(far.connection.event_job.greenlet)
    until(lambda: far.read() or far.ended)


# ---- turns


def test_a_timer_and_a_greenlet_have_their_turn_within_a_batch(served: Served) -> None:
    handled: list[int] = []
    seen: dict[str, int] = {}

    def answer(connection: Any, message: str) -> None:
        burn(0.001)
        handled.append(1)

    fars = [served.connect("text", on_message=answer) for _ in range(200)]
    for far in fars:
        far.send(b"a\n")
    gevent.spawn_later(0.001, lambda: seen.setdefault("timer", len(handled)))
    gevent.spawn(lambda: seen.setdefault("greenlet", len(handled)))
    until(lambda: len(handled) == 200)
    assert seen["greenlet"] <= 40
    assert seen["timer"] <= 40


def test_it_queues_once_however_much_is_ready(served: Served) -> None:
    """What else waits for its turn is not behind itself many times."""
    handled: list[int] = []
    waited: list[int] = []

    def answer(connection: Any, message: str) -> None:
        burn(0.0002)
        handled.append(1)

    fars = [served.connect("text", on_message=answer) for _ in range(500)]
    for _ in range(10):
        for far in fars:
            far.send(b"a\n")
        loops = turns_until(
            partial(served.context.run_queue.add, partial(waited.append, 1)), waited
        )
        assert loops <= 3
        waited.clear()


def turns_until(begin: Callable[[], object], condition: list[int]) -> int:
    """How often the event loop turns from `begin` until something is in the list."""
    count = 0

    def add() -> None:
        nonlocal count
        count += not condition

    watcher: Any = get_hub().loop.prepare()
    watcher.start(add)
    begin()
    until(lambda: condition)
    watcher.stop()
    watcher.close()
    return count


# ---- what is in a batch


class Ready:
    """A socket in the set that is no connection. served: its events, each of which `then` has as
    its job."""

    def __init__(self, served: Served, then: Callable[[Ready], object]) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.poller = served.context.poller
        self.then = then
        self.served: list[int] = []
        events = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
        self.poller.watch(self.near.fileno(), self, events)

    def on_ready(self, events: int) -> Ready:
        self.served.append(events)
        return self

    def run(self, me: object) -> None:
        self.then(self)

    def close(self) -> None:
        self.poller.forget(self.near.fileno(), self)
        self.near.close()
        self.far.close()


@pytest.mark.parametrize("waits", [False, True])
def test_one_that_is_closed_in_the_batch_is_not_served(served: Served, waits: bool) -> None:
    def close_the_other(ready: Ready) -> None:
        (second if ready is first else first).close()
        if waits:
            gevent.sleep(0)

    first, second = Ready(served, close_the_other), Ready(served, close_the_other)
    first.far.send(b"a")
    second.far.send(b"a")
    gevent.sleep(0.01)
    assert len(first.served) + len(second.served) == 1
    (first if first.served else second).close()


@pytest.mark.parametrize("waits", [False, True])
def test_a_descriptor_that_is_reused_in_the_batch_tells_the_next_nothing(
    served: Served, waits: bool
) -> None:
    """An event of the one before is no data, no end and no reset of the one that follows."""
    told: list[Any] = []
    follows: list[Far] = []

    def replace(ready: Ready) -> None:
        other = second if ready is first else first
        number = other.near.fileno()
        other.close()
        near, far = socket.socketpair()
        assert near.fileno() == number
        callbacks = {"on_message": collect(told), "on_close": lambda c: told.append("close")}
        follows.append(served.connect("text", (near, far), now=True, **callbacks))
        if waits:
            gevent.sleep(0.01)

    first, second = Ready(served, replace), Ready(served, replace)
    for each in (first, second):
        each.far.send(b"a")
        each.far.shutdown(socket.SHUT_RDWR)
    until(lambda: follows)
    gevent.sleep(0.02)
    assert told == []
    follows[0].send(b"hello\n")
    until(lambda: told == ["hello"])
    (first if first.served else second).close()


def test_an_exception_in_serving_costs_one(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[Any] = []
    handled: list[Any] = []
    monkeypatch.setattr(
        get_hub(), "handle_error", lambda context, kind, *_: failed.append((context, kind))
    )

    wrong = [Ready(served, lambda ready: 1 // 0) for _ in range(3)]
    fars = [served.connect("text", on_message=collect(handled)) for _ in range(20)]
    for each in (*fars[:10], *(one.far for one in wrong), *fars[10:]):
        each.send(b"a\n")
    until(lambda: len(handled) == 20 and len(failed) == 3)
    assert {kind for _, kind in failed} == {ZeroDivisionError}
    assert {id(context) for context, _ in failed} == {id(each) for each in wrong}
    for each in wrong:
        each.close()


def test_a_copy_of_the_process_leaves_the_set_to_its_parent(served: Served) -> None:
    handled: list[str] = []
    pids: list[int] = []

    def answer(connection: Any, message: str) -> None:
        handled.append(message)
        if message != "fork":
            return
        pid = os.fork()
        if not pid:
            try:
                gevent.reinit()
                served.board.make_private()
                served.context.release_all()
                gevent.sleep(0.01)
            finally:
                os._exit(len(handled))
        pids.append(pid)

    fars = [served.connect("text", on_message=answer) for _ in range(5)]
    for far in (fars[1], fars[0], *fars[2:]):
        far.send(b"fork\n" if far is fars[0] else b"a\n")
    until(lambda: len(handled) == 5)
    _, status = os.waitpid(pids[0], 0)
    assert os.waitstatus_to_exitcode(status) <= 2  # it has served none of those that follow
    for far in fars:
        far.send(b"b\n")
    until(lambda: len(handled) == 10)


def test_after_it_has_let_go_it_serves_nobody(served: Served) -> None:
    handled: list[str] = []

    def answer(connection: Any, message: str) -> None:
        handled.append(message)
        served.context.poller.let_go()

    fars = [served.connect("text", on_message=answer) for _ in range(3)]
    for far in fars:
        far.send(b"a\n")
    assert turns(NAP) < IDLE
    assert len(handled) == 1


# ---- reading


@pytest.mark.parametrize("size", [65535, 65536, 65537, 126976, 65536 + 126976, 1 << 20])
def test_all_is_read_that_has_come(served: Served, size: int) -> None:
    got: list[bytes] = []
    far = served.connect("tcp", on_message=collect(got))
    far.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    data = os.urandom(size)
    for _ in range(2):  # the second time with larger reads
        got.clear()
        far.send(data)
        until(lambda: sum(map(len, got)) == size)
        assert b"".join(got) == data
    assert far.connection.io.bytes_read == 2 * size


@pytest.mark.parametrize("size", [1, 65536, 126976])
def test_an_end_that_comes_with_data(served: Served, size: int) -> None:
    told: list[Any] = []
    far = served.connect("tcp", on_message=collect(told), on_close=lambda c: told.append("close"))
    far.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    far.send(b"a" * size)
    far.socket.shutdown(socket.SHUT_WR)
    until(lambda: "close" in told)
    assert sum(map(len, told[:-1])) == size
    until(lambda: far.read() == b"" and far.ended == "end")


@pytest.mark.parametrize("with_data", [False, True])
def test_a_reset(served: Served, with_data: bool) -> None:
    told: list[Any] = []
    far = served.connect(
        "tcp", over_tcp(), on_message=collect(told), on_close=lambda c: told.append("close")
    )
    if with_data:
        far.send(b"a")
        until(lambda: told == [b"a"])
    reset(far)
    until(lambda: told[-1:] == ["close"])
    assert far.connection.status == "closed"


def test_it_writes_when_the_peer_takes_more(served: Served) -> None:
    told: list[str] = []
    size = 4 << 20

    def answer(connection: Any, message: str) -> None:
        connection.max_send_buffer_size = 1000
        connection.send(b"a" * size, raw=True)

    far = served.connect(
        "text",
        on_message=answer,
        on_buffer_full=lambda c: told.append("full"),
        on_buffer_drain=lambda c: told.append("drain"),
    )
    far.send(b"a\n")
    until(lambda: told == ["full"])
    assert turns(NAP) < IDLE
    until(lambda: len(far.read()) == size)
    until(lambda: told == ["full", "drain"])


# ---- pausing


@pytest.fixture(params=["plain", "tls"])
def pair(request: pytest.FixtureRequest, pki: Pki) -> Callable[[Served], tuple[Any, Any]]:
    """`pair(served)`: two connected sockets, with TLS or without."""
    if request.param == "tls":
        return lambda served: over_tls(served, pki)
    return lambda served: over_tcp()


Pair = Callable[[Served], tuple[Any, Any]]


def test_one_that_is_paused_does_not_spin_and_loses_nothing(served: Served, pair: Pair) -> None:
    got: list[str] = []
    far = served.connect("text", pair(served), on_message=collect(got))
    far.send(b"a\n")
    until(lambda: got == ["a"])
    far.connection.pause_recv()
    for letter in (b"b\n", b"c\n"):
        far.send(letter)
        assert turns(NAP) < IDLE
    assert got == ["a"]
    far.connection.resume_recv()
    until(lambda: got == ["a", "b", "c"])
    far.send(b"d\n")
    until(lambda: got == ["a", "b", "c", "d"])


def test_a_paused_peer_that_is_gone_does_not_spin(served: Served, pair: Pair) -> None:
    told: list[Any] = []
    far = served.connect(
        "text", pair(served), on_message=collect(told), on_close=lambda c: told.append("close")
    )
    far.send(b"a\n")
    until(lambda: told == ["a"])
    far.connection.pause_recv()
    far.send(b"b\n")
    reset(far)
    assert turns(NAP) < IDLE
    assert told == ["a"]
    far.connection.resume_recv()
    until(lambda: told[-1] == "close")


def test_a_peer_that_has_ended_and_is_then_gone_does_not_spin(served: Served, pair: Pair) -> None:
    told: list[Any] = []

    def answer(connection: Any, message: str) -> None:
        gevent.sleep(4 * NAP)
        told.append(message)

    far = served.connect(
        "text", pair(served), on_message=answer, on_close=lambda c: told.append("close")
    )
    far.send(b"a\n")
    if isinstance(far.socket, ssl.SSLSocket):
        with suppress(ssl.SSLWantReadError):
            far.socket.unwrap()
    else:
        far.socket.shutdown(socket.SHUT_WR)
    gevent.sleep(0.01)
    reset(far)
    assert turns(NAP) < IDLE
    until(lambda: told == ["a", "close"])


# ---- a protocol of the user's that waits


class Waits:
    """A protocol whose method `step` waits for a package that begins with "w". noted: what was
    called."""

    def __init__(self, served: Served, step: str) -> None:
        event, self.step, self.noted = Event(), step, list[str]()
        self.release = event.set
        noted = self.noted

        def wait(name: str, data: bytes) -> None:
            noted.append(name)
            if name == step and data.startswith(b"w"):
                noted.append("waits")
                event.wait()
                noted.append("has waited")

        class Lines(served.loaded.protocols.PackageProtocol):  # type: ignore[misc,name-defined]
            def package_length(self, buffer: bytes) -> int | None:
                wait("package_length", buffer)
                return buffer.index(b"\n") + 1 if b"\n" in buffer else None

            def decode(self, package: bytes) -> str:
                wait("decode", package)
                return package[:-1].decode()

        self.protocol = Lines


@pytest.mark.parametrize("step", ["package_length", "decode"])
@pytest.mark.parametrize("where", ["read", "job"])
def test_a_protocol_that_waits_is_refused(served: Served, step: str, where: str) -> None:
    """It would be asked again before it has answered. So it costs its connection, as any fault."""
    waits = Waits(served, step)
    protocol = waits.protocol
    if where == "job":
        protocol = type("Step", (served.loaded.protocols.Lockstep, protocol), {})
    told: list[Any] = []
    far = served.connect(
        protocol, on_message=collect(told), on_close=lambda c: told.append("close")
    )
    other = served.connect("text", on_message=collect(told))
    far.send(b"a\nwait\nb\n" if where == "job" else b"wait\n")
    gevent.sleep(0.001)
    other.send(b"other\n")
    with suppress(BrokenPipeError):
        far.send(b"more\n")
    until(lambda: "close" in told and "other" in told)
    waits.release()
    assert waits.noted.count("waits") == 1
    assert "has waited" not in waits.noted
    assert "more" not in told
    assert served.counters()["EXCEPTIONS"] == 1
    until(lambda: not served.context.is_at_work)


def test_a_callback_may_wait_though_its_protocol_must_not(served: Served) -> None:
    """on_buffer_full is called while a job reads on."""
    told: list[str] = []

    def full(connection: Any) -> None:
        gevent.sleep(0.001)
        told.append("full")

    def answer(connection: Any, message: str) -> None:
        connection.max_send_buffer_size = 1000
        connection.send("x" * 1_000_000)
        told.append(message)

    far = served.connect("text", on_message=answer, on_buffer_full=full)
    far.send(b"a\n")
    until(lambda: told == ["full", "a"])


# ---- what else may run


def test_a_connection_that_ends_while_its_answer_is_made_is_not_written_to(served: Served) -> None:
    """CPython 3.11 collects garbage whenever it makes an object that may refer to others, as the
    date is made of, and what is collected may close connections."""
    opened: list[socket.socket] = []

    def answer(connection: Any, request: Any) -> str:
        gevent.sleep(1.05)  # the date is to be made anew
        gc.set_threshold(1)
        return "secret"

    def on_collection(phase: str, info: object) -> None:
        frame = sys._getframe()
        while not opened and frame.f_back is not None:
            frame = frame.f_back
            if frame.f_code.co_filename.endswith("gworker/http/date.py"):
                far.connection.destroy()
                opened.extend(socket.socketpair())  # the descriptor is given again

    far = served.connect("http", on_message=answer)
    descriptor = far.connection.io.fileno()
    thresholds = gc.get_threshold()
    gc.callbacks.append(on_collection)
    try:
        far.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: opened and not served.context.is_at_work)
    finally:
        gc.callbacks.remove(on_collection)
        gc.set_threshold(*thresholds)
    assert opened[0].fileno() == descriptor
    far.socket.settimeout(1)
    assert far.socket.recv(100) == b""
    opened[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        opened[1].recv(100)
    for each in opened:
        each.close()
