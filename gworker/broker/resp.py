"""Commands and replies as bytes, in the protocol of Redis (RESP2; a push is RESP3's).

Parsing is `hiredis.Reader`'s. https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

from typing import Any, cast

from hiredis import pack_command

from gworker.broker.interface import Reply

# The version of what LocalBroker and BrokerServer say to each other. Others are refused.
VERSION = b"1"

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"


def command(*parts: str | bytes) -> bytes:
    """A command with its arguments: an array of bulk strings."""
    packed: bytes = pack_command(cast(Any, parts))  # its type says one part
    return packed


def reply(value: Reply) -> bytes:
    """What an operation answers."""
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    return b"*%d\r\n%b" % (len(value), b"".join(map(reply, value)))


def error(reason: str) -> bytes:
    """A refusal. An error is one line."""
    return b"-ERR %b\r\n" % " ".join(reason.split()).encode()
