"""JSON text (RFC 8259) that is neither bound to ASCII nor has NaN in it."""

from __future__ import annotations

# `json.JSONEncoder` makes one at each call, which costs as much as a quarter of a document.
from _json import encode_basestring, make_encoder
from typing import Any, NoReturn


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


_containers: dict[int, Any] = {}  # those that are being encoded: one within itself is found by it
_encode = make_encoder(
    _containers, _refuse, encode_basestring, None, ": ", ", ", False, False, False
)


def encode_json(value: object) -> str:
    """`value` as JSON. ValueError for NaN, infinities and what contains itself, TypeError for what
    is no JSON, RecursionError for what is nested too deeply."""
    try:
        return "".join(_encode(value, 0))
    except BaseException:
        _containers.clear()
        raise
