"""Every error that gworker raises on purpose.

By where it can be mended::

    BrokerDown         the operator: the broker of messages does not answer
    BrokerError        the caller or the operator: the broker refuses, or is not fit
    ConfigError        the operator: a flag, an address, a user or group
    LoadError          the developer: the target cannot be loaded or is of the wrong kind
    ProtocolError      the peer: what it sent is not the protocol; carries the reply that it gets
        RequestError   found when a handler looks, which may answer itself or let it escape
    SendBufferFull     caught by `send`, which returns False
    HandlerTimeout     the developer: a callback took too long, and is ended by this
"""

from __future__ import annotations

from enum import IntEnum


class GworkerError(Exception):
    """Base of all errors of this package."""


class ConfigError(GworkerError):
    """A setting, address or permission that stops the start. The message names what and where."""


class LoadError(GworkerError):
    """The target could not be loaded, or is not something that can be served.

    `traceback` is the formatted traceback of the user's own code, or "" if none of it ran.
    """

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class ProtocolError(GworkerError):
    """A peer broke the protocol.

    reply: the bytes that the peer gets before its connection is closed (an HTTP response, a
    WebSocket close frame); b"" sends nothing. The place that finds the fault chooses the reply.
    TypeError if it is anything else than bytes.
    """

    # Which of several faults that are raised at one place, for counting. No part is the peer's.
    kind: str = ""

    def __init__(self, message: str, reply: bytes = b"") -> None:
        if not isinstance(reply, bytes):
            raise TypeError(
                f"the reply of a {type(self).__name__} is bytes, not {type(reply).__name__}: "
                f"{reply!r}"
            )
        super().__init__(message)
        self.reply = reply


class RequestError(ProtocolError):
    """What a handler looked at is not what the peer had to send: a form that is none, a body that
    stops.

    A handler that lets it escape has its peer answered with `reply`; that is no fault of the
    handler, and is not counted as one.
    """


class SendBufferFull(GworkerError):
    """A protocol that cannot send yet keeps as much as it may: the connection refuses the
    message."""


class HandlerTimeout(BaseException):
    """Raised in a callback that has run for `seconds`, at what it waits for (`handler_timeout`).

    As gevent.Timeout it is no Exception: code that goes on after any error (`except Exception`)
    lets it pass. A handler that catches it may clean up, and has as many seconds for that.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class ErrorCode(IntEnum):
    """The `code` argument of `on_error`."""

    CONNECT_FAIL = 1
    SEND_FAIL = 2


class BrokerDown(GworkerError):
    """The broker does not answer. uncertain: what was asked for may have been done all the same."""

    def __init__(self, message: str, uncertain: bool = False) -> None:
        super().__init__(message)
        self.uncertain = uncertain


class BrokerError(GworkerError):
    """The broker, or its address, is not fit for what was asked; the message says why."""
