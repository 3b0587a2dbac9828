"""Charsets: which names are known, and that they decode."""

from __future__ import annotations

import encodings

import pytest

from gworker.http import Request
from gworker.http.charset import _CODECS, decode


def request(line: str = "GET / HTTP/1.1", *fields: str, body: bytes = b"") -> Request:
    return Request("\r\n".join([line, "Host: a", *fields, "", ""]).encode("latin-1"), body)


@pytest.mark.parametrize(
    "charset",
    [
        "nonsense",
        "idna",
        "punycode",
        "hex",
        "unicode_escape",
        "zlib",
        "undefined",
        "mbcs",
        "charmap",
    ],
)
def test_charsets_that_are_none(charset):
    with pytest.raises(ValueError, match=f"unknown charset '{charset}'"):
        assert request(
            "POST / HTTP/1.1", f"Content-Type: text/plain; charset={charset}", body=b"aa"
        ).text


def test_a_charset_that_is_unknown_leaves_nothing_behind():
    before = len(encodings._cache)
    for number in range(3):
        asked = request(
            "POST / HTTP/1.1", f"Content-Type: text/plain; charset=none-{number}", body=b"a"
        )
        with pytest.raises(ValueError, match="unknown charset"):
            assert asked.text
    assert len(encodings._cache) == before


@pytest.mark.parametrize(
    "name", sorted({*_CODECS.values(), "UTF-8", "us-ascii", "Shift_JIS", "ISO-8859-15"})
)
def test_what_is_a_charset_decodes(name):
    assert decode("a".encode(name), name) == "a"
