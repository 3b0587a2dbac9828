"""What one connection is a member of. It exists from its first join or bind on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from gworker.messages.channels import Channel
from gworker.messages.frame import canonical

MAX_PRESENCE = 1024  # bytes of JSON


class Joined(NamedTuple):
    """What a join has found.

    recovered: everything since the position that was given has been sent. missed: so many messages.
    position: where the group is now; "" if it keeps nothing.
    """

    recovered: bool = False
    missed: int = 0
    position: str = ""


class Belongings(NamedTuple):
    """What one connection is a member of, as plain values. groups: with what it shows of itself
    there. inbox: in its client id; "" if it was not asked for. calls: of publish_many, of
    which it has got a message."""

    groups: list[tuple[str, bytes]]
    uid: str | None = None
    is_single: bool = False
    inbox: str = ""
    calls: Sequence[str] = ()


class Membership:
    """channels: its groups, in the order in which it joined. user: the channel of the user to whom
    it is bound. infos: what it shows of itself, by channel. inbox: the channel of its client id;
    None: it was not asked for. is_single: its bind is to close the others, and the broker has
    not said so yet.
    """

    __slots__ = ("channels", "inbox", "infos", "is_single", "user")

    def __init__(self) -> None:
        self.channels: dict[Channel, None] = {}
        self.infos: dict[Channel, bytes] | None = None
        self.user: Channel | None = None
        self.inbox: Channel | None = None
        self.is_single = False

    @property
    def groups(self) -> list[str]:
        return [each.text for each in self.channels]

    @property
    def uid(self) -> str | None:
        return None if self.user is None else self.user.text

    @property
    def all_channels(self) -> Iterator[Channel]:
        """Its groups, its user and its inbox."""
        yield from self.channels
        if self.user is not None:
            yield self.user
        if self.inbox is not None:
            yield self.inbox

    def has(self, channel: Channel) -> bool:
        """True for one of its groups, and for its user."""
        return channel in self.channels or channel is self.user

    def belongings(self, calls: Sequence[str] = ()) -> Belongings:
        """See `Belongings`."""
        return Belongings(
            [(each.text, self.info(each)) for each in self.channels],
            self.uid,
            self.is_single,
            "" if self.inbox is None else self.inbox.text,
            calls,
        )

    def info(self, channel: Channel) -> bytes:
        return b"" if self.infos is None else self.infos.get(channel, b"")

    def set_info(self, channel: Channel, info: bytes) -> None:
        if info:
            self.infos = self.infos or {}
            self.infos[channel] = info
        elif self.infos is not None:
            self.infos.pop(channel, None)

    def leave(self, channel: Channel) -> bool:
        """False: it is no member."""
        if channel not in self.channels:
            return False
        del self.channels[channel]
        self.set_info(channel, b"")
        return True


def presence_text(presence: Any) -> bytes:
    """What a member shows of itself, as JSON; b"" for None. Raises TypeError and ValueError."""
    if presence is None:
        return b""
    text = canonical(presence, "presence")
    if len(text) > MAX_PRESENCE:
        raise ValueError(f"presence has at most {MAX_PRESENCE} bytes of JSON, not {len(text)}")
    return text
