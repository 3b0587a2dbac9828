"""JSON: what was sent, and objects as JSON that every reader takes."""

from __future__ import annotations

import json
from typing import Any

from gworker.core.json_text import encode_json

_decode = json.JSONDecoder().decode


def from_json(data: bytes) -> Any:
    """The value that `data` says, in UTF-8, UTF-16 or UTF-32.

    ValueError for what is no JSON, RecursionError for what is nested too deeply.
    """
    if data[:1] in b"{[" and data[1:2] != b"\0":  # json.loads looks for the encoding for longer
        try:
            return _decode(data.decode())
        except UnicodeDecodeError:
            pass
    return json.loads(data)


def to_json(value: object) -> bytes:
    """`value` as JSON in UTF-8, or in ASCII if it contains half of a surrogate pair, which UTF-8
    cannot encode.

    ValueError for NaN and infinities (RFC 8259 section 6), and for an object that contains itself;
    TypeError for what is no JSON.
    """
    try:
        text = encode_json(value)
    except ValueError as error:
        raise ValueError(
            f"JSON has no NaN, no infinity, and nothing within itself: {error}"
        ) from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()
