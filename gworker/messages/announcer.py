"""What one process announces to its broker: at the start, and once more after the broker was down
or has forgotten it."""

from __future__ import annotations

import logging

from gworker.broker.interface import Broker
from gworker.errors import BrokerDown, BrokerError, ConfigError
from gworker.messages.background import in_background
from gworker.messages.declarations import Declarations, conflict
from gworker.messages.host import Host
from gworker.messages.presence.presence import Presence
from gworker.messages.single_binds import SingleBinds

log = logging.getLogger("gworker")


class Announcer:
    """is_due: something could not be announced, as the broker was down."""

    def __init__(
        self,
        broker: Broker,
        host: Host,
        declarations: Declarations,
        presence: Presence,
        single_binds: SingleBinds,
    ) -> None:
        self.is_due = False
        self._broker = broker
        self._host = host
        self._declarations = declarations
        self._presence = presence
        self._single_binds = single_binds
        self._number = 0  # of the last announcement: an earlier one gives up

    def declare(self) -> None:
        """Declare what holds for groups. Raises ConfigError if another process of the same or a
        newer generation has declared it in another way; BrokerDown."""
        generation = b"%d" % self._host.generation
        answers = [
            (
                one,
                self._broker.submit(
                    "declare", b"", one.pattern.encode(), one.text.encode(), generation
                ),
            )
            for one in self._declarations
        ]
        for one, answer in answers:
            other = answer.wait()
            if isinstance(other, bytes) and other:
                raise ConfigError(conflict(one, other.decode()))

    def broker_is_up(self) -> None:
        """Announce what could not be announced."""
        if self.is_due or self._presence.is_dirty:
            self.start()

    def start(self) -> None:
        """Announce all that the broker has to know of this process. Waits for nothing."""
        self._number += 1
        self.is_due = False
        in_background(self._announce, self._number)

    def _announce(self, number: int) -> None:
        try:
            self._declare_again()
            self._presence.announce(lambda: number == self._number and not self._host.has_ended)
            self._single_binds.send_all()
        except BrokerDown:
            self.is_due = True  # once more when it is up
        except BrokerError as error:  # once more in a few seconds
            log.warning("the broker refuses to hear what this process has: %s", error)
        except Exception:
            log.exception("the broker could not be told what this process has")

    def _declare_again(self) -> None:
        try:
            self.declare()
        except ConfigError as error:  # a newer generation was faster: its successor will agree
            log.warning("%s", error)
