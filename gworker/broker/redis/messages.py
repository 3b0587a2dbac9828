"""The link for messages to one server: sharded subscriptions, and a look at whether they work."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from gworker.broker.interface import Reply
from gworker.broker.link.input import MakeReadable
from gworker.broker.link.link import Link
from gworker.broker.redis.topology import Address, Servers, text_of
from gworker.errors import BrokerDown, BrokerError

log = logging.getLogger("gworker")

BATCH = 512  # channels of one SSUBSCRIBE

# Seconds for which a link that has just been made may not be up without being a loss.
NEW_SECONDS = 1.0


class Owner(Protocol):
    """What a link for messages tells, from its own thread."""

    def on_link_up(self, link: MessageLink) -> None:
        """It works, and nothing is subscribed."""

    def on_link_down(self, link: MessageLink) -> None:
        """It does not work any more, and all its subscriptions are lost."""

    def on_ended(self, link: MessageLink, name: bytes) -> None:
        """A subscription has ended: it was told to, or the slot is another server's now."""


class MessageLink:
    """on_message: gets those messages of channels that are in `wanted`, which may change; the
    channel begins at `start` in its name. session: how often it has been up, and has been broken.
    changed_at: the last of these.
    """

    def __init__(
        self,
        address: Address,
        servers: Servers,
        owner: Owner,
        wanted: Mapping[bytes, object],
        start: int,
        on_message: Callable[[bytes, bytes], None],
        make_readable: MakeReadable | None,
    ) -> None:
        self.address = address
        self.session = 0
        self.changed_at = self._message_at = time.monotonic()
        self._probed_at = 0.0  # when it was asked to show it; 0: it has shown it
        self._servers = servers
        self._owner = owner
        self._wanted = wanted
        self._start = start
        self._on_message = on_message
        self._link = Link(
            f"messages of {text_of(address)}",
            lambda seconds: servers.socket(address, seconds),
            self._greet,
            self,
            confirmation=b"ssubscribe",
            make_readable=make_readable,
        )

    def start(self) -> None:
        with contextlib.suppress(BrokerDown, BrokerError):
            self._link.start(0)

    @property
    def is_up(self) -> bool:
        return self._link.is_up

    @property
    def is_lost(self) -> bool:
        """It is not up, and not because it has only just been made."""
        is_new = self.session == 0 and time.monotonic() - self.changed_at < NEW_SECONDS
        return not self.is_up and not is_new

    @property
    def heard_at(self) -> float:
        """The moment, by the monotonic clock, until which certainly no message was lost."""
        return self._message_at if self._probed_at else self._link.read_at

    def subscribe(
        self, names: Collection[bytes], done: Callable[[Sequence[bytes], Exception | None], None]
    ) -> None:
        """Subscribe to them. `done` is called for some of them at a time, within CALL_SECONDS.
        Raises BrokerDown."""
        for batch in _batches(names):
            self._link.submit_confirmed(len(batch), partial(done, batch), "SSUBSCRIBE", *batch)

    def unsubscribe(self, names: Collection[bytes]) -> None:
        with contextlib.suppress(BrokerDown):
            for batch in _batches(names):
                self._link.submit_unanswered("SUNSUBSCRIBE", *batch)

    def close(self) -> None:
        self._link.close()

    def let_go(self) -> None:
        self._link.let_go()

    # -- whether messages come

    def is_deaf(self, seconds: float) -> bool:
        """It was asked for so long to show that messages come, and has not."""
        return bool(self._probed_at) and time.monotonic() - self._probed_at > seconds

    def is_quiet(self, seconds: float) -> bool:
        """No message has come for so long, and it was not asked to show that they do."""
        return not self._probed_at and time.monotonic() - self._message_at > seconds

    def show(self, name: bytes, publish: Callable[[], object]) -> None:
        """Publish what only this link hears, in a channel of this name. A PING would not tell that
        messages still come."""
        self._probed_at = time.monotonic()

        def confirmed(error: Exception | None) -> None:
            # Not before: the publication comes over another connection.
            if error is None:
                with contextlib.suppress(BrokerDown):
                    publish()

        with contextlib.suppress(BrokerDown):
            self._link.submit_confirmed(1, confirmed, "SSUBSCRIBE", name)

    # -- what the link tells

    def on_push(self, push: list[Any]) -> None:
        if push[0] == b"smessage":
            self._message_at = time.monotonic()
            self._probed_at = 0.0
            channel = push[1][self._start :]
            if channel in self._wanted:
                self._on_message(channel, push[2])
        elif push[0] == b"sunsubscribe":
            self._owner.on_ended(self, push[1])

    def on_up(self, interrupted: Sequence[bytes], since: float, until: float) -> None:
        self.session += 1
        self.changed_at = self._message_at = time.monotonic()
        self._probed_at = 0.0
        self._owner.on_link_up(self)

    def on_down(self, reason: str) -> None:
        self.session += 1
        self.changed_at = time.monotonic()
        self._owner.on_link_down(self)

    def _greet(self, ask: Callable[..., Reply]) -> None:
        try:
            for command in self._servers.greeting():
                ask(*command)
        except BrokerError as error:
            # The link for commands says it better, and this one must go on trying.
            raise BrokerDown(str(error)) from None


def _batches(names: Collection[bytes]) -> Iterator[Sequence[bytes]]:
    """Names that one command may name: those of one partition, so many at once."""
    of_tag: dict[bytes, list[bytes]] = {}
    for name in names:
        of_tag.setdefault(name[: name.index(b"}:")], []).append(name)
    for some in of_tag.values():
        for start in range(0, len(some), BATCH):
            yield some[start : start + BATCH]
