"""The broker of one instance: a process of its own, reached over a unix socket."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import cast

from gworker.broker import resp
from gworker.broker.interface import Answer, Listener, Reply, State
from gworker.broker.link.input import MakeReadable
from gworker.broker.link.link import Link
from gworker.errors import BrokerDown, BrokerError
from gworker.system.unix_socket import address_of

# Seconds between two words to the broker process, which cuts those that say nothing for
# `server.LEASE_SECONDS`.
RENEW_SECONDS = 10.0


class LocalBroker:
    """A link to the broker process that listens at `path`. It implements `interface.Broker`.

    The broker process forgets a process when its link ends, so a link that is connected again has
    another name.
    schedule, make_readable: see `link.Link`. title: what errors call it. renew: seconds between two
    words to the broker process while there is nothing to say.
    """

    def __init__(
        self,
        path: str,
        schedule: Callable[[Callable[[], None]], object] = lambda callback: callback(),
        title: str = "the broker process",
        renew: float = RENEW_SECONDS,
        make_readable: MakeReadable | None = None,
    ) -> None:
        self._renew = renew
        self._closing = threading.Event()
        self.process = _new_name()
        self.state: State = "down"
        self.latency = 0.0
        self._path = path
        self._link = Link(
            title, self._connect, self._greet, self, schedule, make_readable=make_readable
        )

    def start(self, listener: Listener, wait: float) -> None:
        self._listener = listener
        threading.Thread(target=self._keep_lease, name="gworker lease", daemon=True).start()
        self._link.start(wait)

    def _keep_lease(self) -> None:
        while not self._closing.wait(self._renew):
            if self.state == "up":
                with contextlib.suppress(BrokerDown):
                    self._link.submit("PING")

    def call(self, operation: str, channel: bytes, *arguments: bytes) -> Reply:
        began = time.monotonic()
        reply = self.submit(operation, channel, *arguments).wait()
        self.latency = time.monotonic() - began
        return reply

    def submit(self, operation: str, channel: bytes, *arguments: bytes) -> Answer:
        return self._link.submit(operation.upper(), channel, *arguments)

    def post(self, operation: str, channel: bytes, *arguments: bytes) -> None:
        with contextlib.suppress(BrokerDown):  # what it knew of this process is announced anew
            self.submit(operation, channel, *arguments)

    def partition_of(self, channel: bytes) -> int:
        return 0

    def subscribe(self, channels: Sequence[bytes]) -> None:
        self._link.subscribe(channels)

    def unsubscribe(self, channels: Sequence[bytes]) -> None:
        self._link.unsubscribe(channels)

    def close(self) -> None:
        self._closing.set()
        self._link.close()

    def process_died(self, pid: int) -> int:
        return 0  # its link has ended

    def let_go(self) -> None:
        self._link.let_go()

    # -- what the link tells

    def on_push(self, push: list[Reply]) -> None:
        self._listener.on_message(cast(bytes, push[1]), cast(bytes, push[2]))

    def on_up(self, interrupted: Sequence[bytes], since: float, until: float) -> None:
        self.state = "up"
        if since:
            if interrupted:
                self._listener.on_interrupted(interrupted, since, until)
            self._listener.on_fenced()
        self._listener.on_state("up")

    def on_down(self, reason: str) -> None:
        self.state = "down"
        self._listener.on_state("down")

    def _connect(self, seconds: float) -> socket.socket:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            end.settimeout(seconds)
            with address_of(self._path) as address:
                end.connect(address)
        except BaseException:
            end.close()
            raise
        return end

    def _greet(self, ask: Callable[..., Reply]) -> None:
        self.process = _new_name()
        try:
            ask("HELLO", self.process, resp.VERSION)
        except BrokerError as error:
            # It has ended, and the next one is of the code that is there now.
            raise BrokerDown(str(error)) from error


def _new_name() -> bytes:
    return secrets.token_hex(8).encode()
