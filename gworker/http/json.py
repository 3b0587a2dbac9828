"""JSON: what was sent, and objects as JSON that every reader takes."""

from __future__ import annotations

import json
from typing import Any

from gworker.core import decode_json, encode_json

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def from_json(data: bytes) -> Any:
    """The value that `data` says, in UTF-8, UTF-16 or UTF-32.

    ValueError for what is no JSON, RecursionError for what is nested too deeply.
    """
    value = decode_json(data)
    return json.loads(data) if value is None else value


def to_json(value: object) -> bytes:
    """`value` as JSON in UTF-8, or in ASCII if it contains half of a surrogate pair, which UTF-8
    cannot encode.

    ValueError for NaN and infinities (RFC 8259 section 6), and for an object that contains itself;
    TypeError for what is no JSON.
    """
    data = encode_json(value)
    if data is not None:
        return data
    try:
        text = _encode(value)
    except ValueError as error:
        raise ValueError(
            f"JSON has no NaN, no infinity, and nothing within itself: {error}"
        ) from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()
