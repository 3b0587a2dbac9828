"""Objects as JSON that every reader takes."""

from __future__ import annotations

import json


def to_json(value: object) -> bytes:
    """`value` as JSON in UTF-8; in ASCII, if there is half of a surrogate pair in it, which UTF-8
    has not.

    ValueError for NaN and infinities, which JSON has not (RFC 8259 section 6), and for an object
    within itself; TypeError for what is no JSON.
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
