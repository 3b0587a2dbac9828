"""File names for instance names, which are often a TARGET: `app:handlers`, `path/to/file.py`."""

from __future__ import annotations

import re
import zlib

MAX_SLUG = 64


def slug(name: str) -> str:
    """`name` itself where possible; `slug(slug(x)) == slug(x)`.

    It never begins like an option or a hidden file.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip("-.")
    if safe == name and 0 < len(safe) <= MAX_SLUG:
        return name
    checksum = zlib.crc32(name.encode(errors="surrogateescape"))
    return f"{safe[: MAX_SLUG - 9] or 'gworker'}-{checksum:08x}"
