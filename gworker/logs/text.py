"""Text as it may stand in the log, wherever it comes from.

Peers choose paths, names and parts of what exceptions say: so no part of a record may look like
another record, and none is endless.
"""

from __future__ import annotations

import re

MAX_RECORD = 262144  # characters of one record

END = 65536  # how many of them are its end, where a traceback says most

INDENT = "    "

# C0 but LF, DEL, C1, line and paragraph separators, and what turns the direction of writing.
_CONTROLS = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)

_SHORT = {"\t": r"\t", "\r": r"\r"}


def cut(text: str) -> str:
    """`text`; of one that is longer than MAX_RECORD, its beginning and its end."""
    left_out = len(text) - MAX_RECORD
    if left_out <= 0:
        return text
    return f"{text[: MAX_RECORD - END]}\n... {left_out} characters left out ...\n{text[-END:]}"


def record(text: str) -> str:
    """`text` as one line, or as that and indented ones that go on with it. Other controls are
    escaped."""
    text = _CONTROLS.sub(_escape, cut(text).rstrip("\n"))
    return text.replace("\n", "\n" + INDENT)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return _SHORT.get(found[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
