"""Charsets by the names that a peer may write.

They are looked up in a table of our own: codecs.lookup searches the file system for a name that it
does not know, and remembers it for ever.
"""

from __future__ import annotations

from encodings.aliases import aliases
from typing import Final

from gworker.http.slices import Slices

# fmt: off
_WITHOUT_ALIAS: Final = (
    "cp720", "cp737", "cp856", "cp874", "cp875", "cp1006", "koi8_t", "koi8_u",
    "mac_arabic", "mac_croatian", "mac_farsi", "mac_romanian", "utf_8_sig",
)

# Python's own, from bytes to bytes or for another system; idna, punycode and the escapes have no
# alias.
_NO_CHARSETS: Final = frozenset((
    "base64_codec", "bz2_codec", "hex_codec", "mbcs", "quopri_codec", "rot_13", "uu_codec",
    "zlib_codec",
))
# fmt: on

_CODECS: Final = {
    name: codec
    for name, codec in [
        *aliases.items(),
        *((codec, codec) for codec in [*aliases.values(), *_WITHOUT_ALIAS]),
    ]
    if codec not in _NO_CHARSETS
}

_AS_IN_ALIASES: Final = str.maketrans("-.:", "___")


def decode(body: bytes, charset: str) -> str:
    """`body` as str. ValueError for a charset that is unknown, or none of the web."""
    codec = _CODECS.get(charset.lower().translate(_AS_IN_ALIASES))
    if codec is None:
        raise ValueError(f"unknown charset {charset!r}")
    return Slices().decoded(body, codec)
