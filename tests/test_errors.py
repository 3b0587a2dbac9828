"""Errors, by what can act on them."""

from __future__ import annotations

import pytest

from gworker import errors
from gworker.errors import ErrorCode, GworkerError, LoadError, ProtocolError, RequestError


def test_each_has_the_base() -> None:
    found = [each for each in vars(errors).values() if isinstance(each, type)]
    found = [each for each in found if issubclass(each, Exception)]
    assert len(found) >= 6
    assert all(issubclass(each, GworkerError) for each in found)
    assert issubclass(RequestError, ProtocolError)


@pytest.mark.parametrize("reply", ["text", None, bytearray(b"x")])
def test_the_reply_of_a_protocol_error_is_bytes(reply: object) -> None:
    assert ProtocolError("wrong").reply == b""
    with pytest.raises(TypeError, match="the reply of a ProtocolError is bytes, not"):
        ProtocolError("wrong", reply)  # type: ignore[arg-type]


def test_a_load_error_has_the_users_traceback_or_none() -> None:
    assert LoadError("it fails").traceback == ""
    assert LoadError("it fails", "Traceback...").traceback == "Traceback..."


def test_codes_of_on_error_are_numbers_that_stay() -> None:
    assert (ErrorCode.CONNECT_FAIL, ErrorCode.SEND_FAIL) == (1, 2)
