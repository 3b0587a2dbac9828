"""Objects as JSON that every reader takes."""

from __future__ import annotations

import json


def to_json(value: object) -> bytes:
    """`value` as JSON in UTF-8, or in ASCII if it contains half of a surrogate pair, which UTF-8
    cannot encode.

    ValueError for NaN and infinities (RFC 8259 section 6), and for an object that contains itself;
    TypeError for what is no JSON.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ValueError(
            f"JSON has no NaN, no infinity, and nothing within itself: {error}"
        ) from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()
