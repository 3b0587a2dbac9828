"""`messages.data`: a dictionary of JSON values that all processes share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

from gworker.broker.interface import MAX_BODY, Reply
from gworker.messages.caller import Called
from gworker.messages.channels import DATA
from gworker.messages.frame import canonical, parsed_json


class SharedData:
    """The values of the cluster, by key. Each is JSON of at most 1 MiB, and stands until it is
    deleted or its time has passed.

    All of its methods wait for the broker, at most 2 seconds, and raise `gworker.BrokerDown` if it
    does not answer; TypeError and ValueError for a key that is no str or empty, and for what JSON
    does not have. ttl: seconds; None: without end.
    """

    def __init__(self, broker: Callable[[], Called]) -> None:
        self._broker = broker

    def get(self, key: str, default: Any = None) -> Any:
        """The value; `default` if there is none."""
        text = self._call("get", key)
        return default if text is None else parsed_json(cast(bytes, text))

    def set(self, key: str, value: Any, ttl: float | None = None) -> None:
        """Store a value, whatever is there."""
        self._call("set", key, _text(value), _milliseconds(ttl))

    def add(self, key: str, value: Any, ttl: float | None = None) -> bool:
        """Store a value if there is none. False: there is one."""
        return self._call("add", key, _text(value), _milliseconds(ttl)) == 1

    def delete(self, key: str) -> bool:
        """False: there was none."""
        return self._call("delete", key) == 1

    def increment(self, key: str, delta: int = 1) -> int:
        """Add to a whole number of 64 bits, and return the sum. One that is not there counts as 0.

        Raises `gworker.BrokerError` if the value is no such number.
        """
        if isinstance(delta, bool) or not isinstance(delta, int):
            raise TypeError(f"delta is an int, not {type(delta).__name__}")
        return cast(int, self._call("increment", key, b"%d" % delta))

    def compare_and_set(self, key: str, expected: Any, value: Any) -> bool:
        """Replace the value if it is `expected`; None: if there is none. False: it is another one.

        Values are equal if their JSON is: keys in order, without spaces. Its time to live stays.
        """
        if expected is None:
            return self._call("compare_and_set", key, b"0", b"", _text(value)) == 1
        return self._call("compare_and_set", key, b"1", _text(expected), _text(value)) == 1

    def expire(self, key: str, ttl: float | None) -> bool:
        """Give a value another time to live. False: there is none."""
        return self._call("expire", key, _milliseconds(ttl)) == 1

    def keys(self, prefix: str = "") -> Iterator[str]:
        """The keys that begin with `prefix`, in no particular order.

        It walks all of them, which is slow, and is no snapshot: one that is added or deleted
        meanwhile may come or not.
        """
        broker, cursor = self._broker(), b""
        start = DATA + _utf8(prefix)
        while True:
            reply = broker.call("keys", b"", start, cursor)
            cursor, found = cast("tuple[bytes, list[bytes]]", reply)
            for name in found:
                yield name.removeprefix(DATA).decode()
            if not cursor:
                return

    def _call(self, operation: str, key: str, *arguments: bytes) -> Reply:
        name = _utf8(key)
        if not name:
            raise ValueError("a key cannot be empty")
        return self._broker().call(operation, DATA + name, *arguments)


def _utf8(key: object) -> bytes:
    if not isinstance(key, str):
        raise TypeError(f"a key is a str, not {type(key).__name__}")
    return key.encode()


def _text(value: Any) -> bytes:
    text = canonical(value, "a value")
    if len(text) > MAX_BODY:
        raise ValueError(f"a value has at most {MAX_BODY} bytes of JSON, not {len(text)}")
    return text


def _milliseconds(ttl: float | None) -> bytes:
    if ttl is None:
        return b"0"
    if isinstance(ttl, bool) or not isinstance(ttl, int | float):
        raise TypeError(f"ttl is in seconds, not {type(ttl).__name__}")
    if not 0.001 <= ttl < 1e9:
        raise ValueError(f"ttl={ttl!r}: expected seconds")
    return b"%d" % round(ttl * 1000)
