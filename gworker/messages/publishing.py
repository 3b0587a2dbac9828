"""The calls that send a message: to groups, connections and users."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, cast

from gworker.broker.deadline import Deadline
from gworker.broker.interface import Answer, Reply
from gworker.errors import BrokerDown, BrokerError
from gworker.messages.caller import Caller, CallingProcess, client_id_of, inbox_and_number
from gworker.messages.channels import EVERYONE, GROUP, INBOX, USER
from gworker.messages.frame import (
    CALL,
    EXCLUDED,
    EXCLUDED_USERS,
    KEY,
    TARGET,
    as_several,
    checked_name,
    message_body,
    position_text,
    serialized,
    user_name,
)

# Bytes that one call sends before it waits for answers.
MOST_UNDER_WAY: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Published:
    """position: of the message; "" in a group that keeps none. receivers: processes that it went
    to. duplicate: a message with this idempotency key was published before; the position is that
    of the first one."""

    position: str = ""
    receivers: int = 0
    duplicate: bool = False


class Publishing(Caller):
    """Those of one process."""

    # ---- to groups

    def publish(
        self,
        group: str,
        message: Any,
        *,
        exclude: Any = (),
        exclude_users: Any = (),
        key: str | None = None,
        idempotency_key: str | None = None,
    ) -> Published:
        """Send a message to every member of a group, and to every function that has subscribed to
        it.

        All of them see the messages of a group in the same order.

        exclude: a connection or a client id that does not get it, or several; exclude_users: the
        same of users. key: of a group of mode "latest": which of its values this is.
        idempotency_key: a second message with the same key within 5 minutes is not published.
        """
        process = self._process()
        kind, data = serialized(message)
        with Deadline():
            header = _header(process, exclude, exclude_users)
            command = _command(process, group, kind, data, header, key, idempotency_key)
            return _published(process, command, process.broker.call(*command))

    def publish_many(
        self,
        groups: Iterable[str],
        message: Any,
        *,
        exclude: Any = (),
        exclude_users: Any = (),
        key: str | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Published]:
        """`publish` to several groups. A connection that is a member of several of them gets it
        once.

        It is not atomic: if BrokerDown is raised with `uncertain` True, or BrokerError, some of the
        groups may have it. With an idempotency_key, a second call with the same key publishes it to
        those that have not; and within 5 seconds, a connection that has got it does not get it
        again.
        """
        names = [groups] if isinstance(groups, str) else list(dict.fromkeys(groups))
        for each in names:
            checked_name(each, "a group")
        process = self._process()
        kind, data = serialized(message)
        with Deadline():
            header = _header(process, exclude, exclude_users)
            header[CALL] = _call_id(idempotency_key)
            # All of them before the first is sent: one that is wrong has nothing published.
            commands = {
                group: _command(process, group, kind, data, header, key, idempotency_key)
                for group in names
            }
            batch = _Batch(process)
            batch.send(commands)
            return batch.published

    # ---- to connections and users

    def broadcast(self, message: Any, *, worker: str | None = None, exclude: Any = ()) -> int:
        """Send a message to every connection of the cluster, or of the Workers of one name. Returns
        how many processes it went to.

        HTTP connections, which take answers only, and WebSockets that are not open yet are left
        out. exclude: as of `publish`.
        """
        process = self._process()
        channel = EVERYONE + ("" if worker is None else checked_name(worker, "a Worker")).encode()
        with Deadline():
            return _send(process, channel, message, _header(process, exclude, ()))

    def send(self, client_id: str, message: Any) -> bool:
        """Send a message to one connection, wherever it is (`Connection.client_id`).

        False: it was not delivered. True: it was handed to the process that holds the
        connection, which is not yet that its peer has read it.
        """
        process = self._process()
        inbox, connection = inbox_and_number(client_id)
        kind, data = serialized(message)
        body = message_body(kind, data, {TARGET: connection})
        if not inbox or process.is_gone(client_id):
            return False
        return process.broker.call("publish", INBOX + inbox.encode(), body) != 0

    def send_to_user(self, uid: str | int, message: Any) -> int:
        """Send a message to every connection that is bound to a user (`Connection.bind`). Returns
        how many processes it went to; 0: the user is nowhere."""
        return _send(self._process(), USER + user_name(uid).encode(), message, {})


def _header(process: CallingProcess, exclude: Any, exclude_users: Any) -> dict[str, Any]:
    header: dict[str, Any] = {}
    if exclude != () and (ids := [client_id_of(process, each) for each in as_several(exclude)]):
        header[EXCLUDED] = ids
    if exclude_users != () and (users := [user_name(each) for each in as_several(exclude_users)]):
        header[EXCLUDED_USERS] = users
    return header


def _command(
    process: CallingProcess,
    group: str,
    kind: int,
    data: bytes,
    header: Mapping[str, Any],
    key: str | None,
    idempotency_key: str | None,
) -> tuple[Any, ...]:
    """What the broker is asked, to publish a message to a group. Raises TypeError, ValueError."""
    channel = GROUP + checked_name(group, "a group").encode()
    declared = process.declarations.of(group)
    for what, given in (("key", key), ("idempotency_key", idempotency_key)):
        if given is not None and not isinstance(given, str):
            raise TypeError(f"{what} is a str, not {type(given).__name__}")
    if key is not None:
        if declared.mode != "latest":
            raise ValueError(f"key= is for groups of mode latest, and {group!r} is none")
        header = {**header, KEY: key}
    body = message_body(kind, data, header)
    if not declared.keeps and idempotency_key is None:
        return "publish", channel, body
    return (
        "keep", channel, declared.mode.encode(), b"%d" % declared.history, declared.ttl_ms,
        (idempotency_key or "").encode(), (key or "").encode(), body,
    )  # fmt: skip


def _published(process: CallingProcess, command: tuple[Any, ...], reply: Reply) -> Published:
    if command[0] == "publish":
        process.published += 1
        return Published("", cast(int, reply))
    receivers, epoch, offset, is_duplicate = cast("tuple[int, bytes, int, int]", reply)
    process.published += not is_duplicate
    position = position_text(epoch.decode("ascii"), offset)
    return Published(position, receivers, bool(is_duplicate))


def _call_id(idempotency_key: str | None) -> str:
    # The same for a call that is made again.
    if not isinstance(idempotency_key, str):
        return secrets.token_urlsafe(9)
    return blake2b(idempotency_key.encode(), digest_size=9).hexdigest()


class _Batch:
    """A message on its way to several groups, without waiting for each."""

    def __init__(self, process: CallingProcess) -> None:
        self.published: dict[str, Published] = {}
        self._process = process
        self._under_way: deque[tuple[str, tuple[Any, ...], Answer]] = deque()
        self._size = 0
        self._error: BrokerDown | BrokerError | None = None
        self._is_uncertain = False

    def send(self, commands: Mapping[str, tuple[Any, ...]]) -> None:
        """Raises BrokerDown, BrokerError."""
        for group, command in commands.items():
            while self._under_way and self._size + len(command[-1]) > MOST_UNDER_WAY:
                self._wait()
            if self._error is not None:
                break
            self._submit(group, command)
        while self._under_way:
            self._wait()
        if isinstance(self._error, BrokerDown):
            is_uncertain = self._is_uncertain or bool(self.published)
            raise BrokerDown(str(self._error), is_uncertain) from self._error
        if self._error is not None:
            raise self._error

    def _submit(self, group: str, command: tuple[Any, ...]) -> None:
        try:
            answer = self._process.broker.submit(*command)
        except (BrokerDown, BrokerError) as error:
            self._failed(error)
        else:
            self._under_way.append((group, command, answer))
            self._size += len(command[-1])

    def _wait(self) -> None:
        group, command, answer = self._under_way.popleft()
        self._size -= len(command[-1])
        try:
            self.published[group] = _published(self._process, command, answer.wait())
        except (BrokerDown, BrokerError) as error:
            self._failed(error)

    def _failed(self, error: BrokerDown | BrokerError) -> None:
        self._error = self._error or error
        self._is_uncertain |= isinstance(error, BrokerDown) and error.uncertain


def _send(process: CallingProcess, channel: bytes, message: Any, header: Mapping[str, Any]) -> int:
    body = message_body(*serialized(message), header)
    return cast(int, process.broker.call("publish", channel, body))
