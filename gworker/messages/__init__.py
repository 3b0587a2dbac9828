"""Messages between processes and machines: groups, users, presence, history.

    from gworker import messages

How far they reach is the setting `--broker`: `local`, all processes of this instance; the URL of a
Redis, all instances of the cluster.

A message is a str, bytes, a dict or a list, and has at most 1 MiB. A dict or a list is JSON:
connections get its text, functions get an object. The name of a group or of a user is a str of
1 to 200 bytes of UTF-8; for a user, an int stands for its decimals. A position is an opaque str of
at most 64 ASCII characters.

Each call here waits for the broker, for at most 2 seconds, and raises `gworker.BrokerDown` if it
does not answer: with `uncertain` True, what was asked for may have been done all the same. It
raises RuntimeError outside a worker process, TypeError and ValueError for what is no message, no
name or no position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from gworker.app.worker import running
from gworker.messages.calls import Member, Published
from gworker.messages.declarations import Mode, Slow, Wrap, checked, declared
from gworker.messages.membership import Joined
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
    "state",
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

    mode: "fleeting": a message reaches those who are members; "recoverable": the last `history`
    messages are kept, until `ttl` seconds have passed without one, and a member that comes back
    gets what it missed; "latest": the last message of each key is kept, for at most `history` keys,
    and sent to each who joins.
    presence: `members` and `count` know who is there, and on_presence is called.
    slow: what happens to a member whose send buffer is full: "drop", it does not get the message;
    "close", it is closed with 1013. A recoverable group always closes: it comes back and recovers.
    wrap: `wrap(message, position) -> message` makes what connections get of a message; it must
    depend on nothing else.

    Raises ConfigError if the same pattern was declared in another way: here, or at the start of a
    process, by another process of the same or a newer generation.
    """
    declared.add(checked(pattern, mode, history, ttl, presence, slow, wrap))


def publish(
    group: str,
    message: Any,
    *,
    exclude: Any = (),
    exclude_users: Any = (),
    key: str | None = None,
    idempotency_key: str | None = None,
) -> Published:
    """Send a message to every member of a group, and to every function that has subscribed to it.

    All of them see the messages of a group in the same order.

    exclude: a connection or a client id that does not get it, or several; exclude_users: the same
    of users. key: of a group of mode "latest": which of its values this is. idempotency_key: a
    second message with the same key within 5 minutes is not published.
    """
    return _messaging().publish(
        group,
        message,
        exclude=exclude,
        exclude_users=exclude_users,
        key=key,
        idempotency_key=idempotency_key,
    )


def publish_many(
    groups: Iterable[str],
    message: Any,
    *,
    exclude: Any = (),
    exclude_users: Any = (),
    key: str | None = None,
    idempotency_key: str | None = None,
) -> dict[str, Published]:
    """`publish` to several groups. A connection that is a member of several of them gets it once.

    It is not atomic: if BrokerDown is raised, some of the groups may have it.
    """
    return _messaging().publish_many(
        groups,
        message,
        exclude=exclude,
        exclude_users=exclude_users,
        key=key,
        idempotency_key=idempotency_key,
    )


def broadcast(message: Any, *, worker: str | None = None, exclude: Any = ()) -> int:
    """Send a message to every connection of the cluster, or of the Workers of one name. Returns how
    many processes it went to.

    HTTP connections, which take answers only, and WebSockets that are not open yet are left out.
    exclude: as of `publish`.
    """
    return _messaging().broadcast(message, worker=worker, exclude=exclude)


def send(client_id: str, message: Any) -> bool:
    """Send a message to one connection, wherever it is (`Connection.client_id`).

    False: certainly nobody has it. True: it was handed to the process that holds the connection,
    which is not yet that its peer has read it.
    """
    return _messaging().send(client_id, message)


def send_to_user(uid: str | int, message: Any) -> int:
    """Send a message to every connection that is bound to a user (`Connection.bind`). Returns how
    many processes it went to; 0: the user is nowhere."""
    return _messaging().send_to_user(uid, message)


def close(
    *,
    connection: str | None = None,
    user: str | int | None = None,
    group: str | None = None,
    code: int = 1000,
    reason: str = "",
) -> None:
    """Close a connection (its client id), all of a user, or all members of a group: exactly one of
    the three, else TypeError.

    code, reason: for protocols that say goodbye, as of `Connection.close`; ValueError for others.
    """
    _messaging().close(connection=connection, user=user, group=group, code=code, reason=reason)


def join(group: str, *, connection: str | None = None, user: str | int | None = None) -> None:
    """Make a connection (its client id), or all of a user, members of a group: exactly one of the
    two, else TypeError.

    They are a moment later, and what is published meanwhile may pass them by.
    """
    _messaging().join(group, connection=connection, user=user)


def leave(group: str, *, connection: str | None = None, user: str | int | None = None) -> None:
    """Let a connection, or all of a user, leave a group. See `join`."""
    _messaging().leave(group, connection=connection, user=user)


def disband(group: str) -> None:
    """Let all members leave a group."""
    _messaging().disband(group)


def members(group: str, limit: int | None = None) -> list[Member]:
    """Who is in a group, or `limit` of them. ValueError unless it is declared with presence=True.

    It walks all of them, which takes long in a large group.
    """
    return _messaging().members(group, limit)


def count(group: str) -> int:
    """How many connections are in a group. ValueError unless it is declared with presence=True."""
    return _messaging().count(group)


def is_online(uid: str | int) -> bool:
    """True if a connection is bound to this user."""
    return _messaging().is_online(uid)


def connections(uid: str | int) -> list[str]:
    """The client ids of the connections that are bound to a user."""
    return _messaging().connections(uid)


def history(
    group: str, *, since: str | None = None, limit: int | None = 100, reverse: bool = False
) -> list[tuple[str, Any]]:
    """The messages that a group keeps, with their positions, the oldest first.

    since: those after this position; with `reverse` those before it, the newest first. Of a
    position that is malformed, or of another group, there are none. limit: at most so many; None:
    all.
    """
    return _messaging().history(group, since=since, limit=limit, reverse=reverse)


def position(group: str) -> str:
    """Where a group is now; "" for one that keeps nothing."""
    return _messaging().position(group)


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
