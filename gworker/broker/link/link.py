"""Link: it connects, reads, and looks at the deadlines.

A link has three threads (greenlets, where gevent has patched `threading`): one connects and reads,
one writes what the kernel did not take at once, one looks at the deadlines of calls. Nothing waits
while it holds the lock; so a flush may run in the event loop itself.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

from hiredis import ProtocolError

from gworker.broker import deadline, resp
from gworker.broker.interface import CALL_SECONDS, Reply
from gworker.broker.link.calls import TICK, Call, Calls, Confirmed, Unanswered
from gworker.broker.link.input import Input, MakeReadable
from gworker.broker.link.output import Output, hang_up
from gworker.errors import BrokerDown, BrokerError

log = logging.getLogger("gworker")

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


def _chunks(channels: Collection[bytes]) -> Iterator[Sequence[bytes]]:
    ordered = list(channels)
    for start in range(0, len(ordered), BATCH):
        yield ordered[start : start + BATCH]


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

        self._lock = threading.Lock()
        self._calls = Calls(title)
        self._output = Output(self._lock, schedule)
        self._input = Input(self._calls, title, owner.on_push, confirmation, make_readable)
        self.is_up = False
        self._is_closed = False
        self._reason = "it has not been connected yet"
        self._wanted: dict[bytes, None] = {}  # channels, in the order of their first subscription

        self._socket: socket.socket | None = None
        self._interrupted: dict[bytes, None] = {}
        self._since = 0.0  # when the break began; 0: there was none

        self._started = threading.Event()  # up for the first time, or not fit
        self._unfit: BrokerError | None = None
        self._closing = threading.Event()

    @property
    def read_at(self) -> float:
        return self._input.read_at

    # -- what its owner calls

    def start(self, wait: float) -> None:
        """Connect. Raises BrokerDown if that takes longer than `wait` seconds; it goes on trying
        then. Raises what `greet` says of a server that is not fit, and is closed then."""
        name = f"gworker {self._title}"
        for work in (self._keep_connected, self._watch_deadlines):
            threading.Thread(target=work, name=name, daemon=True).start()
        self._output.start(name)
        if not self._started.wait(wait):
            raise BrokerDown(f"{self._title}: {self._reason}")
        if self._unfit is not None:
            raise self._unfit

    def submit(self, *command: str | bytes) -> Call:
        """Send a command; `wait` on what this returns. Raises BrokerDown."""
        deadline.require(TICK)
        data = resp.command(*command)
        with self._lock:
            if len(data) + self._output.waiting > MAX_WAITING:
                raise BrokerDown(f"{self._title}: {MAX_WAITING} bytes wait to be written")
            call = self._enqueue(data)
        self._output.flush_soon()
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
        self._output.flush_soon()
        for call in calls:
            call.wait()

    def unsubscribe(self, channels: Sequence[bytes]) -> None:
        """Have these pushed no longer. It waits for nothing."""
        with self._lock:
            for channel in channels:
                self._wanted.pop(channel, None)
            if self.is_up:
                self._enqueue_unsubscribe(channels)
        self._output.flush_soon()

    def submit_confirmed(
        self, pushes: int, done: Callable[[Exception | None], None], *command: str | bytes
    ) -> None:
        """Send a command that so many pushes confirm. `done` is called then, or with the error,
        within `CALL_SECONDS` and in a thread of the link. Raises BrokerDown."""
        data = resp.command(*command)
        with self._lock:
            self._enqueue(data, lambda end: Confirmed(end, pushes, done))
        self._output.flush_soon()

    def submit_unanswered(self, *command: str | bytes) -> None:
        """Send a command without a wait for it, whether it is answered with pushes or an error.
        Raises BrokerDown."""
        data = resp.command(*command) + resp.command("PING")
        with self._lock:
            self._enqueue(data, Unanswered)
        self._output.flush_soon()

    def close(self) -> None:
        """Send what waits, as far as the kernel takes it at once, and end."""
        self._output.flush()
        self._is_closed = True
        self._closing.set()
        self._calls.wake()
        self._output.close()
        hang_up(self._socket)

    def let_go(self) -> None:
        """In a copy of this process: close the descriptors, and tell the server nothing."""
        self._is_closed = True
        self.is_up = False
        for end in (self._socket, self._output.at_once):
            if end is not None:
                # Its number may be another's soon, and is not to be closed again.
                descriptor = end.detach()
                os.closerange(descriptor, descriptor + 1)

    def _enqueue(self, data: bytes, make: Callable[[int], Call] = Call) -> Call:
        # Under the lock.
        if not self.is_up:
            raise BrokerDown(f"{self._title}: {self._reason}")
        call = make(self._output.put(data))
        self._calls.add(call)
        return call

    def _enqueue_unsubscribe(self, channels: Collection[bytes]) -> None:
        for batch in _chunks(channels):
            self._enqueue(resp.command("UNSUBSCRIBE", *batch))

    # -- deadlines

    def _watch_deadlines(self) -> None:
        while not self._is_closed:
            if self._calls.wait_for_one(self._ask_if_silent):
                time.sleep(TICK)
                self._fail_overdue()

    def _ask_if_silent(self) -> float:
        """Seconds until the server has to be asked whether it is there. The answer is overdue as
        any other."""
        if not self.is_up or self._input.is_delivering:
            return SILENCE_SECONDS
        left = self._input.read_at + SILENCE_SECONDS - time.monotonic()
        if left <= 0:
            with contextlib.suppress(BrokerDown):
                self.submit("PING")
        return max(left, TICK)

    def _fail_overdue(self) -> None:
        overdue = self._calls.overdue()
        if not overdue:
            return
        silent_since = max(self._input.read_at, overdue[0].made_at)
        if time.monotonic() - silent_since > DEAD_SECONDS and not self._input.is_delivering:
            hang_up(self._socket)  # what was not written will not be
            return
        self._calls.fail(overdue, f"no answer within {CALL_SECONDS:g} s", sent=math.inf)

    # -- connecting and reading

    def _keep_connected(self) -> None:
        delay = FIRST_DELAY
        while not self._is_closed:
            try:
                self._open()
                delay = FIRST_DELAY
                self._input.read(self._output.at_once)
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
        self._input.attach(end)
        self._greet(self._input.ask)
        announced: dict[bytes, None] = {}
        while True:
            with self._lock:
                missing = [channel for channel in self._wanted if channel not in announced]
                if not missing:
                    self._set_up(end, announced)
                    break
            for batch in _chunks(missing):
                self._input.ask("SUBSCRIBE", *batch)
                announced.update(dict.fromkeys(batch))
        interrupted = [channel for channel in self._wanted if channel in self._interrupted]
        since, self._since = self._since, 0.0
        self._interrupted = {}
        self._tell(self._owner.on_up, interrupted, since, time.time() if since else 0.0)
        self._output.flush_soon()
        self._started.set()

    def _set_up(self, end: socket.socket, announced: dict[bytes, None]) -> None:
        # Under the lock.
        if self._is_closed:
            raise BrokerDown(f"{self._title} is closed")
        end.settimeout(SILENCE_SECONDS)
        self._output.attach(end)
        self._input.heard()
        self.is_up = True
        gone = [channel for channel in announced if channel not in self._wanted]
        if gone:
            self._enqueue_unsubscribe(gone)

    def _break(self, reason: str) -> None:
        with self._lock:
            was_up, self.is_up = self.is_up, False
            self._reason = reason
            calls, sent = self._calls.take_all(), self._output.sent
            end, self._socket = self._socket, None
            hang_up(end)
            self._output.detach()
            if was_up:
                self._interrupted = dict(self._wanted)
                self._since = time.time() - (time.monotonic() - self._input.read_at)
        if end is not None:
            end.close()
        self._calls.fail(calls, reason, sent)
        if was_up:
            self._tell(self._owner.on_down, reason)

    def _tell(self, tell: Callable[..., None], *arguments: object) -> None:
        try:
            tell(*arguments)
        except Exception:
            log.exception("%s", self._title)
