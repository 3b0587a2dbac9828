"""The commands that a process sends to one Redis server: a queue, written in pipelines.

One thread (a greenlet, where gevent has patched `threading`) sends what has gathered in one piece,
and reads the answers in order; what comes meanwhile is the next pipeline. While commands come one
by one, the thread that waits for one does that itself, and none has to be woken. Nothing is sent
twice unless the server has said that it did not do it.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from gworker.broker import resp
from gworker.broker.redis.command import Command, Exchange
from gworker.broker.redis.topology import ANSWER_SECONDS, Address, failure, text_of
from gworker.errors import BrokerDown, BrokerError

# Commands and bytes of one pipeline.
PIPELINE_COMMANDS, PIPELINE_BYTES = 512, 1 << 20

# Commands, and their bytes, that may wait for a server. What would exceed them fails.
MAX_QUEUE, MAX_QUEUE_BYTES = 100_000, 16 << 20

_ASKING = resp.command("ASKING")

# Seconds between two attempts to reach a server that is down; up to a quarter more.
PROBE_SECONDS = 1.0

# Seconds after which a connection is looked at before it is written to.
IDLE_SECONDS = 0.5

# Seconds that a pipeline, or the opening of a connection, may take in all.
STUCK_SECONDS = ANSWER_SECONDS + 0.2

# Seconds without a command after which the server is asked whether it is there.
LOOK_SECONDS = 1.0


class Owner(Protocol):
    """What a command link tells, from its own thread."""

    def greet(self, address: Address, ask: Callable[..., list[Any]]) -> None:
        """A new connection; `ask` sends commands and returns their answers. Raises BrokerError if
        the server is not fit."""

    def on_link(self) -> None:
        """It works now, or no longer."""

    def on_refused(self, command: Command, link: CommandLink, error: ResponseError) -> None:
        """The server did not do it."""


class CommandLink:
    """reason: why it does not work, in words."""

    def __init__(self, address: Address, connect: Callable[[Address], Any], owner: Owner) -> None:
        self.address = address
        self.is_up = False
        self.reason = "it has not been connected yet"
        self.unfit: BrokerError | None = None
        self.latency = 0.0  # seconds of the last pipeline

        self._connect = connect
        self._owner = owner
        self._queue: deque[Command] = deque()
        self._size = 0  # bytes of these
        self._lock = threading.Lock()  # of both; nothing waits while it is held
        self._wake = threading.Event()
        self._used_at = 0.0
        self._is_closed = False
        self.is_down = False  # an attempt to connect has failed
        self._connection: Any = None
        self._exchanging = threading.Lock()  # of the connection, while it is up
        self._rest: Exchange | None = None  # what was begun by a thread that was interrupted
        self._sending: Exchange | None = None  # the last one
        self._is_alone = False  # the last exchange was of one command
        # The connection on which an answer is awaited, and until when.
        self._busy: tuple[Any, float] | None = None
        self._thread = threading.Thread(
            target=self._run, name=f"gworker commands {text_of(address)}", daemon=True
        )
        self._thread.start()

    def submit(self, command: Command, *, first: bool = False) -> None:
        """Send it with the next pipeline. Raises BrokerDown at once if the server is down."""
        if self.is_down or self._is_closed:
            raise BrokerDown(self.reason)
        with self._lock:
            size = self._size + len(command.data)
            if len(self._queue) >= MAX_QUEUE or size > MAX_QUEUE_BYTES:
                raise BrokerDown(
                    f"{text_of(self.address)}: {len(self._queue)} commands with {self._size} bytes "
                    "wait for it"
                )
            self._size = size
            if first:
                self._queue.appendleft(command)
            else:
                self._queue.append(command)
        is_awaited, command.is_awaited = command.is_awaited, False  # at the first attempt alone
        is_in_time = command.deadline - time.monotonic() > STUCK_SECONDS  # for an answer
        if is_awaited and is_in_time and self._is_alone and self._busy is None:
            command.help = self._exchange_here
        elif not self._wake.is_set():
            self._wake.set()

    def look_if_idle(self) -> None:
        """A server that is gone is known before a command needs it."""
        if (
            self.is_up
            and not self._queue
            and self._busy is None
            and time.monotonic() - self._used_at > LOOK_SECONDS
        ):
            self.look()

    def look(self) -> None:
        """See whether the server is still there, before anything else is sent."""
        self._used_at = 0.0
        with contextlib.suppress(BrokerDown):
            self.submit(Command(0, (b"PING",), waits=False), first=True)

    def break_if_stuck(self) -> None:
        """End an exchange that takes too long. A socket's timeout begins anew with each byte."""
        busy = self._busy
        if busy is not None and time.monotonic() > busy[1]:
            busy[0].disconnect()

    def close(self, reason: str) -> None:
        """Send what waits, and end. The thread does it, soon."""
        self.reason = reason
        self._is_closed = True
        self._wake.set()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def let_go(self) -> None:
        """In a copy of this process: nothing of this is its own."""
        self._is_closed = True
        self._queue.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    # -- the thread

    def _run(self) -> None:
        while not self._is_closed:
            if self._connection is None and not self._reach():
                self._fail_queue()
                self._sleep(PROBE_SECONDS * random.SystemRandom().uniform(1, 1.25))
                continue
            self._wake.wait()
            self._wake.clear()
            with self._exchanging:
                while (self._queue or self._rest) and self._connection is not None:
                    self._exchange(self._connection)
        with self._exchanging:
            if self._connection is not None and (self._queue or self._rest):
                self._exchange(self._connection)
        self._fail_queue()
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._is_closed and (left := until - time.monotonic()) > 0:
            if self._wake.wait(left):
                self._wake.clear()
                self._fail_queue()

    def _fail_queue(self) -> None:
        with self._lock:
            commands, self._queue = self._queue, deque()
            self._size = 0
        for command in commands:
            command.fail(BrokerDown(self.reason))

    def _reach(self) -> bool:
        connection = self._connect(self.address)

        def ask(*commands: tuple[bytes, ...]) -> list[Any]:
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            return [connection.read_response() for _ in commands]

        self._busy = connection, time.monotonic() + STUCK_SECONDS
        try:
            connection.connect()
            self._owner.greet(self.address, ask)
        except (RedisError, OSError, BrokerError) as error:
            connection.disconnect()
            why = error if isinstance(error, BrokerError) else failure(self.address, error)
            self.reason = str(why)
            self.unfit = why if isinstance(why, BrokerError) else None
            self.is_down = True
            self._busy = None
            self._owner.on_link()
            return False
        self._busy = None
        self._connection = connection
        self._used_at = time.monotonic()
        self.unfit = None
        self.is_down = False
        self.is_up = True
        self._owner.on_link()
        return True

    def _lose(self, error: Exception) -> None:
        self.reason = str(failure(self.address, error))
        connection, self._connection = self._connection, None
        if connection is not None:  # else this is a copy, which has let go
            connection.disconnect()
        self.is_up = False
        # After a reset the next attempt may do at once; after silence it will take as long.
        self.is_down = isinstance(error, (RedisTimeout, TimeoutError))
        self._busy = None
        if self.is_down:
            self._fail_queue()
        self._wake.set()
        self._owner.on_link()

    def _take(self) -> list[Command]:
        taken: list[Command] = []
        size = 0
        with self._lock:
            while self._queue and len(taken) < PIPELINE_COMMANDS and size < PIPELINE_BYTES:
                command = self._queue.popleft()
                taken.append(command)
                size += len(command.data)
            self._size -= size
        return taken

    def _to_send(self) -> list[Command]:
        commands = []
        for command in self._take():
            if command.take_to_send():
                commands.append(command)
            else:
                command.fail(BrokerDown("it was given up"))
        return commands

    def _is_open(self, connection: Any, commands: list[Command]) -> bool:
        """It may have been closed while it was idle. Then these are as good as never sent."""
        try:
            connection.can_read(0)
        except (RedisError, OSError) as error:
            with self._lock:
                self._queue.extendleft(reversed(commands))
                self._size += sum(len(each.data) for each in commands)
            self._lose(error)
            return False
        return True

    def _exchange_here(self) -> None:
        """In the thread that waits for a command."""
        if self._exchanging.acquire(blocking=False):
            try:
                if self._connection is not None and self._rest is None:
                    self._exchange(self._connection)
            finally:
                self._exchanging.release()
                if self._queue or self._rest:
                    self._wake.set()
        else:
            self._wake.set()

    def _exchange(self, connection: Any) -> None:
        rest, self._rest = self._rest, None
        try:
            exchange = rest or self._send(connection)
            if exchange is None:
                return
            self._rest = exchange  # until all is read, whatever interrupts this thread
            self._read_answers(connection, exchange)
        except (RedisError, OSError) as error:
            self._fail(error)
        except BaseException as error:  # gevent.Timeout, say, of the one that waits
            if self._rest is None:
                self._fail(ConnectionError(f"interrupted: {error!r}"))
            raise
        else:
            self._rest = self._busy = None
            self._used_at = time.monotonic()
            self.latency = self._used_at - exchange.began

    def _send(self, connection: Any) -> Exchange | None:
        commands = self._to_send()
        if not commands:
            return None
        self._is_alone = len(commands) == 1
        pieces: list[bytes] = []
        for command in commands:
            if command.asked is not None:
                pieces.append(_ASKING)
            pieces.append(command.data)
        exchange = Exchange(commands)
        if exchange.began - self._used_at > IDLE_SECONDS and not self._is_open(
            connection, commands
        ):
            return None
        self._busy = connection, exchange.began + STUCK_SECONDS
        self._sending = exchange
        connection.send_packed_command([b"".join(pieces)], check_health=False)
        return exchange

    def _read_answers(self, connection: Any, exchange: Exchange) -> None:
        """Each command with an answer is taken out."""
        unanswered = exchange.unanswered
        until = exchange.began + ANSWER_SECONDS
        while unanswered:
            if unanswered[0].asked is not None and not exchange.has_asked:
                connection.read_response(disconnect_on_error=False)
                exchange.has_asked = True
            try:
                reply = connection.read_response(disconnect_on_error=False)
            except ResponseError as error:
                command = exchange.take_first()
                command.is_sent = False
                command.asked = None
                self._owner.on_refused(command, self, error)
                continue
            exchange.take_first().answer(reply)
            # A server that answers in drops must not hold up the rest of the pipeline.
            if time.monotonic() > until:
                raise TimeoutError

    def _fail(self, error: Exception) -> None:
        """The connection is broken. What was sent and has no answer may have been done."""
        exchange, self._rest, self._sending = self._sending, None, None
        self._lose(error)
        for command in exchange.unanswered if exchange is not None else ():
            command.fail(BrokerDown(self.reason, uncertain=True))
