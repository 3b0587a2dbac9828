"""The names of Worker and Connection, and the one that is meant by another spelling.

Other spellings are typing errors, and the names of Workerman: they are in camelCase, and its
connections take attributes of the application.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Final, NoReturn

ASYNCIO: Final = (
    "hint: the handlers of a process share one thread, and asyncio runs one loop in a thread at "
    "a time; use gworker.blocking(asyncio.run, ...)"
)

# The ends of RuntimeErrors of asyncio (asyncio/runners.py, base_events.py).
SECOND_LOOP: Final = (
    "cannot be called from a running event loop",
    "Cannot run the event loop while another loop is running",
    "This event loop is already running",
)

# As Python says it, of the classes whose instances applications get.
NO_ATTRIBUTE: Final = re.compile(
    r"'(Connection|ClientConnection|Session|Datagram)' object has no attribute '(\w+)'"
)

# How much two words have in common of which one is a typing error: difflib's ratio.
LIKENESS: Final = 0.85

# What a connection has, as the guide lists it.
CONNECTION: Final = (
    "id", "worker", "protocol", "transport", "status", "remote_ip", "remote_port", "remote_address",
    "local_ip", "local_port", "local_address", "peer_closed", "tls", "proxy_address",
    "peer_credentials",
    "context", "request", "headers", "subprotocol", "close_code", "close_reason", "bytes_read",
    "bytes_written", "send_queue", "recv_queue", "is_full", "max_send_buffer_size",
    "max_package_size", "client_id", "groups", "uid",
    "send", "drain", "close", "destroy", "pause_recv", "resume_recv", "pipe", "switch", "encode",
    "join", "leave", "bind", "unbind",
    "on_connect", "on_websocket_connect", "on_message", "on_close", "on_error", "on_buffer_full",
    "on_buffer_drain", "on_takeover",
)  # fmt: skip

# What the examples of Workerman keep on a connection.
KEPT_BY_APPLICATIONS: Final = ("timer_id", "last_message_time")


def plain(name: str) -> str:
    return name.replace("_", "").lower()


def meant(name: str, known: Iterable[str]) -> str:
    """The name in `known` of which `name` is another spelling; "" if there is none.

    A plural is a name of its own: `users` is no typing error for `user`.
    """
    given, by_plain = plain(name), {plain(each): each for each in known}
    for spelling in (given, given.removeprefix("get")):
        if spelling in by_plain:
            return by_plain[spelling]
    if given.removesuffix("s") in by_plain:
        return ""
    near = difflib.get_close_matches(given, by_plain, n=1, cutoff=LIKENESS)
    return by_plain[near[0]] if near else ""


def connection_hint(name: str) -> str:
    """The hint for an attribute that a connection does not have."""
    if word := meant(name, CONNECTION):
        return f"did you mean {word}?"
    return f"a connection takes no further ones: keep your own data as connection.context.{name}"


def hint_for(error: BaseException | None) -> str | None:
    """One line for the log, below the traceback of an error of user code whose own text does not
    say what to do; None if there is nothing to add."""
    if type(error) is AttributeError and (found := NO_ATTRIBUTE.match(str(error))):
        return f"hint: {connection_hint(found[2])}"
    return ASYNCIO if type(error) is RuntimeError and str(error).endswith(SECOND_LOOP) else None


def camel_case(name: str) -> str:
    # `remote_ip`: `remoteIp`.
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


class Misspelt:
    """An attribute whose getting and setting is an error that names the right one."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, *_: object) -> NoReturn:
        raise AttributeError(
            f"a connection has no attribute {self._name!r}; {connection_hint(self._name)}"
        )

    __set__ = __get__


def refuse_other_spellings(connection: type) -> None:
    """Give the class of connections the hints for users of Workerman.

    A `__setattr__` would do so for every name, at a cost for every message. Other names get their
    hint in the log (`hint_for`).
    """
    words = {camel_case(each) for each in (*CONNECTION, *KEPT_BY_APPLICATIONS)} - set(CONNECTION)
    words |= {
        camel_case(f"get_{each}") for each in CONNECTION if each.startswith(("remote_", "local_"))
    }
    for word in (*words, *KEPT_BY_APPLICATIONS):
        type.__setattr__(connection, word, Misspelt(word))


class Strict(type):
    """A class on which only its own attributes can be set, and not those of its instances.

    So a misspelt setting for all instances is an error.
    """

    def __setattr__(cls, name: str, value: object) -> None:
        found = [vars(each)[name] for each in cls.__mro__ if name in vars(each)]
        is_private = name.startswith("_")
        if not (found or is_private):
            settable = [each for each in dir(cls) if each.startswith("default_")]
            word = meant(name, settable)
            hint = f"did you mean {word}?" if word else f"there are {', '.join(settable)}"
            raise AttributeError(f"{cls.__name__} has no setting {name!r}; {hint}")
        if not is_private and hasattr(found[0], "__set__"):
            default = f"default_{name}"
            hint = (
                f"for all of them there is {cls.__name__}.{default}"
                if hasattr(cls, default)
                else "set it on one"
            )
            raise AttributeError(f"{name} is an attribute of each {cls.__name__}; {hint}")
        super().__setattr__(name, value)
