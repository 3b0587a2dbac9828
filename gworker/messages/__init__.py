"""Messages between processes and machines: groups, users, presence, history.

    from gworker import messages

How far they reach is the setting `--broker`: `local`, all processes of this instance; the URL of a
Redis, all instances of the cluster.

A message is a str, bytes, a dict or a list, and has at most 1 MiB. A dict or a list is JSON:
connections get its text, functions get an object. The name of a group or of a user is a str of
1 to 200 bytes of UTF-8; for a user, an int stands for its decimals. A position is an opaque str of
at most 64 ASCII characters.

Each call here waits for the broker, for at most 2 seconds (the first one as long again until it is
connected), and raises `gworker.BrokerDown` if it does not answer: with `uncertain` True, what was
asked for may have been done all the same. It raises RuntimeError outside a worker process,
TypeError and ValueError for what is no message, no name or no position.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gworker.app.worker import running
from gworker.messages.calls import Calls
from gworker.messages.declarations import Mode, Slow, Wrap, checked, declared
from gworker.messages.membership import Joined
from gworker.messages.publishing import Published
from gworker.messages.queries import Member
from gworker.messages.shared_data import SharedData

if TYPE_CHECKING:
    from gworker.broker.interface import State
    from gworker.messages.messaging import Messaging

__all__ = [
    "Joined",
    "Member",
    "Published",
    "broadcast",
    "close",
    "connections",
    "count",
    "data",
    "declare",
    "disband",
    "history",
    "is_online",
    "join",
    "leave",
    "members",
    "position",
    "publish",
    "publish_many",
    "send",
    "send_to_user",
    "subscribe",
    "unsubscribe",
]


def _messaging() -> Messaging:
    if not running:
        raise RuntimeError("messages are published and received inside a worker process")
    found: Messaging = running[0][1].service.messaging
    return found


def declare(
    pattern: str,
    *,
    mode: Mode = "fleeting",
    history: int = 100,
    ttl: float = 300,
    presence: bool = False,
    slow: Slow = "drop",
    wrap: Wrap | None = None,
) -> None:
    """Say what holds for all groups whose names `pattern` matches (fnmatch). At module level.

    Of several patterns that match, the first that was declared holds.

    mode: "fleeting": a message reaches the members; "recoverable": the last `history`
    messages are kept, until `ttl` seconds have passed without one, and a member that comes back
    gets what it missed; "latest": the last message of each key is kept, for at most `history` keys,
    and sent to each new member.
    presence: `members` and `count` show the members, and on_presence is called.
    slow: what happens to a member whose send buffer is full: "drop", it does not get the message;
    "close", it is closed with 1013. A recoverable group always closes: it comes back and recovers.
    wrap: `wrap(message, position) -> message` makes what connections get of a message; it must
    depend on nothing else.

    Raises ConfigError if the same pattern was declared in another way: here, or at the start of a
    process, by another process of the same or a newer generation.
    """
    declared.add(checked(pattern, mode, history, ttl, presence, slow, wrap))


_calls = Calls(_messaging)

publish = _calls.publish
publish_many = _calls.publish_many
broadcast = _calls.broadcast
send = _calls.send
send_to_user = _calls.send_to_user
close = _calls.close
join = _calls.join
leave = _calls.leave
disband = _calls.disband
members = _calls.members
count = _calls.count
is_online = _calls.is_online
connections = _calls.connections
history = _calls.history
position = _calls.position


def subscribe(group: str, function: Callable[[Any], object]) -> None:
    """Call `function(message)` in this process with each message of a group, from now on.

    It is called in a greenlet of its own, with one message after the other. While it is slow, up to
    10 000 messages wait, and those beyond are dropped and counted. What it raises is logged and
    counted. During a reload the old process and the new one may both be called.
    """
    _messaging().subscribe(group, function)


def unsubscribe(group: str) -> None:
    """Call the functions of a group no longer, with what waits for them neither."""
    _messaging().unsubscribe(group)


state: State
"""How the broker is: "up", "degraded" or "down". It is asked for each time, and waits for nothing.
"""

data = SharedData(lambda: _messaging().broker)
"""A dictionary of JSON values that all processes share."""


def __getattr__(name: str) -> Any:
    if name == "state":
        return _messaging().state
    raise AttributeError(f"module 'gworker.messages' has no attribute {name!r}")
