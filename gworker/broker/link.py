"""One socket to a server that speaks RESP: pipelined calls, pushes, deadlines, reconnecting.

A link has three threads (greenlets, where gevent has patched `threading`): one connects and reads,
one writes what the kernel did not take at once, one looks at the deadlines of calls. Nothing waits
while it holds the lock; so a flush may run in the event loop itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Protocol, cast

from hiredis import ProtocolError, PushNotification, Reader, ReplyError

from gworker.broker import resp
from gworker.broker.interface import CALL_SECONDS, Reply
from gworker.errors import BrokerDown, BrokerError

log = logging.getLogger("gworker")

# Seconds between two looks at the deadlines. A call fails at the last look before CALL_SECONDS.
TICK = 0.2

# A server that has said nothing for so long when a call fails is taken for dead: the link is
# broken, and connects again.
DEAD_SECONDS = CALL_SECONDS / 2

# Seconds in which the server has to take a connection, and to answer each command of its opening.
OPENING_SECONDS = CALL_SECONDS

# Seconds before the next attempt to connect: the first, and the longest.
FIRST_DELAY, LONGEST_DELAY = 0.1, 1.0

# Seconds without a byte after which the link sends a PING.
SILENCE_SECONDS = 10.0

# Bytes that may wait to be written. A call that would exceed them fails; a subscription does not.
MAX_WAITING = 8 << 20

BATCH = 512  # channels in one command
READ_SIZE = 1 << 16

_NOTHING = object()  # no whole reply has been read yet


def _chunks(channels: Collection[bytes]) -> Iterator[Sequence[bytes]]:
    ordered = list(channels)
    for start in range(0, len(ordered), BATCH):
        yield ordered[start : start + BATCH]


class Readable(Protocol):
    """Waits for a socket to have something to read. `wait` may come back for nothing."""

    def wait(self) -> None: ...

    def close(self) -> None: ...


MakeReadable = Callable[[socket.socket], Readable]


class Owner(Protocol):
    """What a link tells. All calls come from the thread that reads, which must not call the link's
    methods that wait; an exception is logged."""

    def on_push(self, push: list[Reply]) -> None:
        """The server has sent what is no reply."""

    def on_up(self, interrupted: Sequence[bytes], since: float, until: float) -> None:
        """The link works. `interrupted`: channels that were subscribed before a break, and are
        again; `since` and `until` in seconds since the epoch. None, and 0, at the first time."""

    def on_down(self, reason: str) -> None:
        """The link worked, and is broken. It connects again by itself."""


def _hang_up(end: socket.socket | None) -> None:
    """Wake the threads that wait for the socket: they find its end."""
    if end is not None:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class Call:
    """A command that has been sent, or waits to be."""

    __slots__ = ("_answered", "_error", "_reply", "deadline", "end", "replies")

    def __init__(self, end: int, replies: int) -> None:
        self.end = end  # how many bytes the link has to write until all of this is written
        self.replies = replies  # how many are still to come
        self.deadline = time.monotonic() + CALL_SECONDS - TICK
        self._reply: Reply = None
        self._error: Exception | None = None
        self._answered = threading.Lock()
        self._answered.acquire()

    def answer(self, reply: Reply) -> None:
        self._reply = reply
        self._finish()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._finish()

    def _finish(self) -> None:
        # A reply to a call that has failed is dropped.
        with contextlib.suppress(RuntimeError):
            self._answered.release()

    def wait(self) -> Reply:
        """The reply. Raises BrokerDown within `CALL_SECONDS`, BrokerError if the server refuses."""
        self._answered.acquire()
        if self._error is not None:
            raise self._error
        return self._reply


class _Confirmed(Call):
    """A command that pushes confirm, or an error refuses. `done` is called once."""

    __slots__ = ("_done",)

    def __init__(self, end: int, pushes: int, done: Callable[[Exception | None], None]) -> None:
        super().__init__(end, pushes)
        self._done = done

    def _finish(self) -> None:
        done, self._done = self._done, _ignore
        done(self._error)


class _Unanswered(Call):
    """A command whose answers are pushes, or an error that concerns nobody, and a PING behind it:
    what comes until the answer to the PING is what the command was answered."""

    __slots__ = ()


def _ignore(error: Exception | None) -> None:
    pass


class Link:
    """One link to one server. Its methods may be called in any thread, or in any greenlet of the
    thread in which `schedule` runs its callbacks.

    connect: makes the connected socket within so many seconds. Raises OSError.
    greet: called with `ask` (a command; waits for its reply) before anything else is sent. What it
    raises breaks the link: BrokerError ends `start` at once, OSError and BrokerDown do not.
    schedule: runs a callback soon, once all that is ready to send has had its turn; it must not
    wait. What was sent before goes to the kernel in one piece.
    confirmation: the kind of those pushes that confirm commands of `submit_confirmed`.
    make_readable: what waits until a socket without TLS may be read; None: a read waits itself.
    read_at: when the server was heard last, by the monotonic clock.
    """

    def __init__(
        self,
        title: str,
        connect: Callable[[float], socket.socket],
        greet: Callable[[Callable[..., Reply]], None],
        owner: Owner,
        schedule: Callable[[Callable[[], None]], object] = lambda callback: callback(),
        confirmation: bytes = b"",
        make_readable: MakeReadable | None = None,
    ) -> None:
        self._title = title
        self._connect = connect
        self._greet = greet
        self._owner = owner
        self._schedule = schedule
        self._confirmation = confirmation
        self._make_readable = make_readable

        self._lock = threading.Lock()
        self.is_up = False
        self._is_closed = False
        self._reason = "it has not been connected yet"
        self._wanted: dict[bytes, None] = {}  # channels, in the order of their first subscription
        self._calls: deque[Call] = deque()  # without a reply, in order
        self._outgoing: list[bytes] = []
        self._unsent = memoryview(b"")  # what the kernel has not taken of a write
        self._queued = self._sent = 0  # bytes, since the link was connected
        self._is_flush_due = False
        self._is_blocked = False  # the writing thread has `_unsent`

        # Both have the same descriptor's connection. One waits up to its timeout, one never does.
        # A connection with TLS has the first alone, and all is written in the writing thread.
        self._socket: socket.socket | None = None
        self._at_once: socket.socket | None = None
        self._reader: Any = Reader(notEnoughData=_NOTHING)

        self.read_at = 0.0
        self._is_delivering = False
        self._interrupted: dict[bytes, None] = {}
        self._since = 0.0  # when the break began; 0: there was none

        self._started = threading.Event()  # up for the first time, or not fit
        self._unfit: BrokerError | None = None
        self._closing = threading.Event()
        self._has_calls = threading.Event()
        self._has_unsent = threading.Event()

    # -- what its owner calls

    def start(self, wait: float) -> None:
        """Connect. Raises BrokerDown if that takes longer than `wait` seconds; it goes on trying
        then. Raises what `greet` says of a server that is not fit, and is closed then."""
        for work in (self._keep_connected, self._write_rest, self._watch_deadlines):
            threading.Thread(target=work, name=f"gworker {self._title}", daemon=True).start()
        if not self._started.wait(wait):
            raise BrokerDown(f"{self._title}: {self._reason}")
        if self._unfit is not None:
            raise self._unfit

    def submit(self, *command: str | bytes) -> Call:
        """Send a command; `wait` on what this returns. Raises BrokerDown."""
        data = resp.command(*command)
        with self._lock:
            if len(data) + self._queued - self._sent > MAX_WAITING:
                raise BrokerDown(f"{self._title}: {MAX_WAITING} bytes wait to be written")
            call = self._enqueue(data)
        self._flush_soon()
        return call

    def call(self, *command: str | bytes) -> Reply:
        """Send a command and wait for its reply. Raises BrokerDown, BrokerError."""
        return self.submit(*command).wait()

    def subscribe(self, channels: Sequence[bytes]) -> None:
        """Have these pushed, from now on and after each break. Raises BrokerDown, BrokerError; they
        stay wanted."""
        with self._lock:
            self._wanted.update(dict.fromkeys(channels))
            calls = [
                self._enqueue(resp.command("SUBSCRIBE", *batch)) for batch in _chunks(channels)
            ]
        self._flush_soon()
        for call in calls:
            call.wait()

    def unsubscribe(self, channels: Sequence[bytes]) -> None:
        """Have these pushed no longer. It waits for nothing."""
        with self._lock:
            for channel in channels:
                self._wanted.pop(channel, None)
            if self.is_up:
                self._enqueue_unsubscribe(channels)
        self._flush_soon()

    def submit_confirmed(
        self, pushes: int, done: Callable[[Exception | None], None], *command: str | bytes
    ) -> None:
        """Send a command that so many pushes confirm. `done` is called then, or with the error,
        within `CALL_SECONDS` and in a thread of the link. Raises BrokerDown."""
        data = resp.command(*command)
        with self._lock:
            self._enqueue(data, lambda end: _Confirmed(end, pushes, done))
        self._flush_soon()

    def submit_unanswered(self, *command: str | bytes) -> None:
        """Send a command that nobody waits for, whether it is answered with pushes or an error.
        Raises BrokerDown."""
        data = resp.command(*command) + resp.command("PING")
        with self._lock:
            self._enqueue(data, lambda end: _Unanswered(end, 1))
        self._flush_soon()

    def close(self) -> None:
        """Send what waits, as far as the kernel takes it at once, and end."""
        self._flush()
        self._is_closed = True
        for event in (self._closing, self._has_calls, self._has_unsent):
            event.set()
        _hang_up(self._socket)

    def let_go(self) -> None:
        """In a copy of this process: close the descriptors, and tell the server nothing."""
        self._is_closed = True
        self.is_up = False
        for end in (self._socket, self._at_once):
            if end is not None:
                # Its number may be another's soon, and is not to be closed again.
                descriptor = end.detach()
                os.closerange(descriptor, descriptor + 1)

    # -- writing

    def _enqueue(self, data: bytes, make: Callable[[int], Call] = lambda end: Call(end, 1)) -> Call:
        # Under the lock.
        if not self.is_up:
            raise BrokerDown(f"{self._title}: {self._reason}")
        self._outgoing.append(data)
        self._queued += len(data)
        call = make(self._queued)
        self._calls.append(call)
        if not self._has_calls.is_set():
            self._has_calls.set()
        return call

    def _enqueue_unsubscribe(self, channels: Collection[bytes]) -> None:
        for batch in _chunks(channels):
            self._enqueue(resp.command("UNSUBSCRIBE", *batch))

    def _flush_soon(self) -> None:
        # Not under the lock: it may be done at once.
        if self._outgoing and not self._is_flush_due:
            self._is_flush_due = True
            self._schedule(self._flush)

    def _flush(self) -> None:
        with self._lock:
            self._is_flush_due = False
            self._write()

    def _write(self) -> None:
        # Under the lock.
        while self.is_up and not self._is_blocked:
            if not self._unsent:
                if not self._outgoing:
                    return
                self._unsent = memoryview(b"".join(self._outgoing))
                self._outgoing.clear()
            if self._at_once is None:
                self._is_blocked = True
                self._has_unsent.set()
                return
            try:
                sent = self._at_once.send(self._unsent)
            except BlockingIOError:
                self._is_blocked = True
                self._has_unsent.set()
            except OSError:
                _hang_up(self._socket)  # reading tells why
                return
            else:
                self._unsent = self._unsent[sent:]
                self._sent += sent

    def _write_rest(self) -> None:
        while True:
            self._has_unsent.wait()
            self._has_unsent.clear()
            if self._is_closed:
                return
            while self._is_blocked and (end := self._socket) is not None:
                try:
                    sent = end.send(self._unsent[:READ_SIZE])
                except OSError:  # it is broken, or has taken nothing for as long as it may
                    _hang_up(end)
                    break
                with self._lock:
                    if end is not self._socket:
                        break
                    self._unsent = self._unsent[sent:]
                    self._sent += sent
                    if not self._unsent:
                        self._is_blocked = False
                        self._write()

    # -- deadlines

    def _watch_deadlines(self) -> None:
        while not self._is_closed:
            if not self._calls:
                self._has_calls.clear()
                if not self._calls:
                    self._has_calls.wait(self._ask_if_silent())
            else:
                time.sleep(TICK)
                self._fail_overdue()

    def _ask_if_silent(self) -> float:
        """Seconds until the server has to be asked whether it is there. The answer is overdue as
        any other."""
        if not self.is_up or self._is_delivering:
            return SILENCE_SECONDS
        left = self.read_at + SILENCE_SECONDS - time.monotonic()
        if left <= 0:
            with contextlib.suppress(BrokerDown):
                self.submit("PING")
        return max(left, TICK)

    def _fail_overdue(self) -> None:
        now = time.monotonic()
        overdue = [call for call in list(self._calls) if call.deadline <= now]
        if not overdue:
            return
        if now - self.read_at > DEAD_SECONDS and not self._is_delivering:
            _hang_up(self._socket)  # what was not written will not be
            return
        for call in overdue:
            call.fail(BrokerDown(f"{self._title}: no answer within {CALL_SECONDS:g} s", True))

    # -- connecting and reading

    def _keep_connected(self) -> None:
        delay = FIRST_DELAY
        while not self._is_closed:
            try:
                self._open()
                delay = FIRST_DELAY
                self._read()
            except TimeoutError:
                reason = "it does not answer"
            except OSError as error:
                reason = error.strerror or str(error)
            except ProtocolError as error:
                reason = f"it does not speak RESP: {error}"
            except BrokerError as error:
                reason = str(error)
                if not self._started.is_set():
                    self._unfit = error
                    self._is_closed = True
            except BrokerDown as error:
                reason = str(error)
            except Exception as error:
                log.exception("%s", self._title)
                reason = repr(error)
            self._break(reason)
            self._closing.wait(delay * random.SystemRandom().uniform(0.5, 1))
            delay = min(delay * 2, LONGEST_DELAY)
        self._started.set()

    def _open(self) -> None:
        end = self._connect(OPENING_SECONDS)
        if self._is_closed:  # this process may be a copy of the one that has connected
            end.close()
            raise BrokerDown(f"{self._title} is closed")
        end.settimeout(OPENING_SECONDS)
        self._socket = end
        self._reader = Reader(notEnoughData=_NOTHING)
        self._greet(self._ask)
        announced: dict[bytes, None] = {}
        while True:
            with self._lock:
                missing = [channel for channel in self._wanted if channel not in announced]
                if not missing:
                    self._set_up(end, announced)
                    break
            for batch in _chunks(missing):
                self._ask("SUBSCRIBE", *batch)
                announced.update(dict.fromkeys(batch))
        interrupted = [channel for channel in self._wanted if channel in self._interrupted]
        since, self._since = self._since, 0.0
        self._interrupted = {}
        self._tell(self._owner.on_up, interrupted, since, time.time() if since else 0.0)
        self._flush_soon()
        self._started.set()

    def _set_up(self, end: socket.socket, announced: dict[bytes, None]) -> None:
        # Under the lock.
        if self._is_closed:
            raise BrokerDown(f"{self._title} is closed")
        end.settimeout(SILENCE_SECONDS)
        if not isinstance(end, ssl.SSLSocket):
            self._at_once = end.dup()
            self._at_once.settimeout(0)
        self._queued = self._sent = 0
        self.read_at = time.monotonic()
        self.is_up = True
        gone = [channel for channel in announced if channel not in self._wanted]
        if gone:
            self._enqueue_unsubscribe(gone)

    def _ask(self, *command: str | bytes) -> Any:
        """A call while nothing else is under way, in the thread that reads."""
        end = cast(socket.socket, self._socket)
        end.sendall(resp.command(*command))
        while True:
            for reply in iter(self._reader.gets, _NOTHING):
                if type(reply) is PushNotification:
                    self._tell(self._owner.on_push, reply)
                elif isinstance(reply, ReplyError):
                    raise BrokerError(f"{self._title}: {reply}")
                else:
                    return reply
            self._feed(end.recv(READ_SIZE))

    def _feed(self, data: bytes) -> None:
        if not data:
            raise ConnectionResetError("it has closed the connection")
        self._reader.feed(data)

    def _read(self) -> None:
        end = cast(socket.socket, self._socket)
        readable = None
        receive = end.recv
        if self._make_readable is not None and self._at_once is not None:
            readable = self._make_readable(end)
            receive = self._at_once.recv
        self._deliver()  # what came with the answer to the greeting
        try:
            while True:
                if readable is not None:
                    readable.wait()
                try:
                    data = receive(READ_SIZE)
                except (BlockingIOError, TimeoutError):
                    continue  # another thread asks after a server that is silent
                self._feed(data)
                self._deliver()
        finally:
            if readable is not None:
                readable.close()

    def _deliver(self) -> None:
        """All that has been read."""
        on_push, confirmation = self._owner.on_push, self._confirmation
        self._is_delivering = True
        for reply in iter(self._reader.gets, _NOTHING):
            if type(reply) is not PushNotification:
                self._answer(reply)
            elif confirmation and reply[0] == confirmation:
                self._confirm()
            else:
                try:
                    on_push(reply)
                except Exception:
                    log.exception("%s", self._title)
        self.read_at = time.monotonic()
        self._is_delivering = False

    def _answer(self, reply: Any) -> None:
        if not isinstance(reply, ReplyError):
            self._calls.popleft().answer(reply)
        elif not isinstance(self._calls[0], _Unanswered):
            self._calls.popleft().fail(BrokerError(f"{self._title}: {reply}"))

    def _confirm(self) -> None:
        self._calls[0].replies -= 1
        if not self._calls[0].replies:
            self._calls.popleft().answer(None)

    def _break(self, reason: str) -> None:
        with self._lock:
            was_up, self.is_up = self.is_up, False
            self._reason = reason
            calls = list(self._calls)
            self._calls.clear()
            self._outgoing.clear()
            self._unsent = memoryview(b"")
            self._is_blocked = False
            ends = self._socket, self._at_once
            self._socket = self._at_once = None
            if was_up:
                self._interrupted = dict(self._wanted)
                self._since = time.time() - (time.monotonic() - self.read_at)
        for end in ends:
            if end is not None:
                _hang_up(end)
                end.close()
        for call in calls:
            call.fail(BrokerDown(f"{self._title}: {reason}", call.end <= self._sent))
        if was_up:
            self._tell(self._owner.on_down, reason)

    def _tell(self, tell: Callable[..., None], *arguments: object) -> None:
        try:
            tell(*arguments)
        except Exception:
            log.exception("%s", self._title)
