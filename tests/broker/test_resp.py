"""`resp`: what it encodes, hiredis parses."""

from __future__ import annotations

import hiredis
import pytest

from gworker.broker import resp


def parsed(data: bytes) -> object:
    reader = hiredis.Reader()
    reader.feed(data)
    return reader.gets()


@pytest.mark.parametrize(
    "value",
    [
        None,
        0,
        -1,
        1 << 40,
        b"",
        b"a\r\nb\0\xff",
        [],
        [b"epoch", 3, 1, [[1, b"body"], [2, None]]],
    ],
    ids=repr,
)
def test_a_reply_is_read_as_it_was(value):
    assert parsed(resp.reply(value)) == value


def test_a_command_is_an_array_of_its_parts():
    assert parsed(resp.command("KEEP", b"g:a", b"", b"\r\n")) == [b"KEEP", b"g:a", b"", b"\r\n"]


def test_an_error_of_several_lines_is_one_line():
    error = parsed(resp.error("it\nis\r\nso"))
    assert isinstance(error, hiredis.ReplyError)
    assert str(error) == "ERR it is so"
