"""Tokens, of which field names, methods, cookie names and most lists are made (RFC 9110 section
5.6.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# One character of a token, for regular expressions.
TCHAR: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"

TOKEN: Final = TCHAR + "+"


def tokens(headers: Mapping[str, str], name: str) -> list[str]:
    """Return the members of the list in field `name`, in lower case."""
    return [token.strip(" \t") for token in headers.get(name, "").lower().split(",")]
