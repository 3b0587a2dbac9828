"""The body of a message, which no broker decodes: its kind, a header, its content.

    kind (1 byte) + length of the header (2 bytes, big-endian) + header (a JSON object) + content

What a receiver gets: a connection str or bytes, a function what was published.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from gworker.broker.interface import FLEETING, KEPT, MAX_BODY

TEXT, BINARY, JSON, CONTROL = b"tbjc"

# Fields of a header.
EXCLUDED: Final = "x"  # client ids that do not get it
EXCLUDED_USERS: Final = "xu"
CALL: Final = "m"  # a call of publish_many: a connection gets one message of it
KEY: Final = "k"  # of a latest value
TARGET: Final = "to"  # the connection of an inbox, in base 36

MAX_HEADER = 0xFFFF


class Frame(NamedTuple):
    kind: int
    header: Mapping[str, Any]
    data: bytes

    @property
    def content(self) -> str | bytes:
        """As a connection is sent it: JSON is text."""
        return self.data if self.kind == BINARY else self.data.decode()

    @property
    def message(self) -> Any:
        """As it was published."""
        return parsed_json(self.data) if self.kind == JSON else self.content


class Arrived(NamedTuple):
    """A body with its position in a channel that keeps messages; elsewhere ("", 0)."""

    epoch: str
    offset: int
    body: memoryview


def canonical(value: object, what: str = "a message") -> bytes:
    """`value` as JSON: without spaces, its keys in order. Equal values have equal texts.

    Raises TypeError for what JSON does not have, ValueError for NaN, infinities, what contains
    itself, and what is nested more deeply than the recursion limit of Python.
    """
    try:
        text = json.dumps(
            value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
        )
    except RecursionError:
        raise ValueError(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{what} has no JSON: {error}") from None
    except TypeError as error:
        raise TypeError(f"{what} has no JSON: {error}") from None
    return text.encode()


def parsed_json(text: bytes) -> Any:
    """Raises ValueError for what is no JSON, or is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def serialized(message: object) -> tuple[int, bytes]:
    """The kind and the content of a message. Raises TypeError and ValueError."""
    if isinstance(message, str):
        return TEXT, message.encode()
    if isinstance(message, bytes | bytearray | memoryview):
        return BINARY, bytes(message)
    if isinstance(message, dict | list):
        return JSON, canonical(message)
    raise TypeError(f"a message is str, bytes, dict or list, not {type(message).__name__}")


def message_body(kind: int, data: bytes, header: Mapping[str, Any] | None = None) -> bytes:
    """The body of a message. Raises ValueError if it is larger than MAX_BODY."""
    head = canonical(header, "a header") if header else b""
    if len(head) > MAX_HEADER:
        raise ValueError(
            f"a message excludes too many: their names take {len(head)} bytes of {MAX_HEADER}"
        )
    whole = b"%c%b%b%b" % (kind, len(head).to_bytes(2, "big"), head, data)
    if len(whole) > MAX_BODY:
        raise ValueError(f"a message has at most {MAX_BODY} bytes, not {len(whole)}")
    return whole


def order_body(what: Mapping[str, Any], header: Mapping[str, Any] | None = None) -> bytes:
    """The body of an order to the processes that hear of a channel."""
    return message_body(CONTROL, canonical(what), header)


def decoded(body: bytes | memoryview) -> Frame:
    """Raises ValueError for what is none."""
    if len(body) < 3 or body[0] not in b"tbjc":
        raise ValueError("it is no message of gworker")
    start = 3 + int.from_bytes(body[1:3], "big")
    header: Any = parsed_json(bytes(body[3:start])) if start > 3 else {}
    if start > len(body) or not isinstance(header, dict):
        raise ValueError("its header is none")
    return Frame(body[0], header, bytes(body[start:]))


def parsed_payload(payload: bytes) -> Arrived:
    """What a subscriber got (`broker.interface`). Raises ValueError for what is none."""
    view = memoryview(payload)
    if payload[:1] == FLEETING:
        return Arrived("", 0, view[1:])
    if payload[:1] == KEPT and len(payload) >= 17:
        return Arrived(
            payload[1:9].decode("ascii"), int.from_bytes(payload[9:17], "big"), view[17:]
        )
    raise ValueError("it is no payload of a broker")


# ---- positions, as applications and clients see them

_DIGITS = string.digits + string.ascii_lowercase
_POSITION = re.compile(r"([!-~]{8})-([0-9a-z]{1,13})")
_CLIENT_ID = re.compile(r"([0-9a-z]{1,64})\.([0-9a-z]{1,13})")


def base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits or "0"


def position_text(epoch: str, offset: int) -> str:
    """A position as opaque ASCII; "" in a channel that keeps nothing."""
    return f"{epoch}-{base36(offset)}" if epoch else ""


def parsed_position(text: object) -> tuple[str, int] | None:
    """The epoch and the offset; None: it is no position."""
    found = _POSITION.fullmatch(text) if isinstance(text, str) else None
    return None if found is None else (found[1], int(found[2], 36))


# ---- names


def parsed_client_id(text: str) -> tuple[str, str] | None:
    """The inbox, and the connection in base 36; None: it is no client id."""
    found = _CLIENT_ID.fullmatch(text)
    return None if found is None else (found[1], found[2])


def checked_name(value: object, what: str) -> str:
    """Return `value`, the name of a group or a user. Raises TypeError, and ValueError unless it has
    1 to 200 bytes of UTF-8."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is a str, not {type(value).__name__}")
    if not 1 <= len(value.encode()) <= 200:
        raise ValueError(f"{what} has 1 to 200 bytes of UTF-8, not {len(value.encode())}")
    return value


def user_name(uid: object) -> str:
    """Return the name of a user; an int becomes its decimals."""
    if isinstance(uid, int) and not isinstance(uid, bool):
        uid = str(uid)
    return checked_name(uid, "a user")


def as_several(given: object) -> Iterable[Any]:
    """What is given as one or as several: str, int and a connection are one. Raises TypeError."""
    if isinstance(given, str | int) or is_connection(given):
        return (given,)
    if isinstance(given, Iterable):
        return given
    raise TypeError(f"expected one or several, not {type(given).__name__}")


def is_connection(given: object) -> bool:
    return hasattr(type(given), "client_id")
