"""What the broker keeps of a group, which it gives in pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, cast

from gworker.broker.interface import Reply
from gworker.messages.caller import Called
from gworker.messages.channels import GROUP
from gworker.messages.declarations import Declaration


class Page(NamedTuple):
    """epoch, top: the position of the group. is_complete: nothing is missing before the last entry,
    or up to `top` if there is no further page. has_more: there is one."""

    epoch: str
    top: int
    is_complete: bool
    entries: list[tuple[int, bytes]]
    has_more: bool

    @property
    def last(self) -> tuple[str, int]:
        """The position of the last entry: the next page is behind it."""
        return self.epoch, self.entries[-1][0]


def read_page(
    broker: Called,
    group: str,
    declared: Declaration,
    since: tuple[str, int],
    limit: int = 0,
    reverse: bool = False,
) -> Page:
    """See the operation `history`. Raises BrokerDown, BrokerError."""
    epoch, offset = since
    reply = broker.call(
        "history", GROUP + group.encode(), declared.mode.encode(), epoch.encode(),
        b"%d" % offset, b"%d" % limit, b"%d" % bool(reverse),
    )  # fmt: skip
    found, top, is_complete, given = cast("tuple[bytes, int, int, list[Reply]]", reply)
    entries = [(entry[0], entry[1]) for entry in cast("list[tuple[int, bytes]]", given)]
    is_limited = bool(limit) and len(entries) == limit
    # The newest is stored for as long as any other; the oldest may be gone.
    has_more = bool(entries) and not is_limited and entries[-1][0] != (1 if reverse else top)
    return Page(found.decode("ascii"), top, bool(is_complete), entries, has_more)


def read_pages(
    broker: Called,
    group: str,
    declared: Declaration,
    since: tuple[str, int],
    limit: int,
    reverse: bool,
) -> Iterator[Page]:
    """All pages of one epoch, of `limit` entries (0: all). Raises BrokerDown, BrokerError."""
    page = read_page(broker, group, declared, since, limit, reverse)
    yield page
    epoch, left = page.epoch, limit
    while page.has_more:
        left -= len(page.entries)
        page = read_page(broker, group, declared, page.last, max(left, 0), reverse)
        if page.epoch != epoch:
            return
        yield page
