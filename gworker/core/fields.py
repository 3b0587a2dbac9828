"""The grammar of header fields (RFC 9110 section 5)."""

from __future__ import annotations

import re
from typing import Final

# One character of a token, for regular expressions (section 5.6.2): field names, methods, cookie
# names and the members of most lists are tokens.
TCHAR: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"
TOKEN: Final = TCHAR + "+"
_TOKEN = re.compile(TOKEN)

# Section 5.5: no CR, LF, NUL or other control; beyond latin-1 it has no bytes at all.
_VALUE = r"[\t\x20-\x7e\x80-\xff]*"
_NOT_IN_VALUE = re.compile(_VALUE.replace("[", "[^").rstrip("*"))
_FIELD = re.compile(f"{TOKEN}\n{_VALUE}")  # neither part contains an LF


def check_field(name: str, value: str) -> None:
    """Raise ValueError unless `name: value` is one header line, TypeError unless both are str."""
    if isinstance(name, str) and isinstance(value, str) and _FIELD.fullmatch(f"{name}\n{value}"):
        return
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(
            f"a header needs str: str, not {type(name).__name__}: {type(value).__name__}"
        )
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"header name {name!r} is not a token")
    bad = _NOT_IN_VALUE.search(value)
    if bad:
        raise ValueError(f"header {name} contains {bad[0]!r}")
