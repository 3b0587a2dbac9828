"""The body of a message, positions and names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gworker.broker.interface import MAX_BODY
from gworker.messages import frame

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
).filter(lambda value: "\\ud" not in ascii(value) and "inf" not in repr(value))


@given(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.binary(),
        st.lists(json_values),
        st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values),
    ),
    st.sampled_from([{}, {"x": ["a.1"]}, {"m": "é" * 300}]),
)
def test_what_is_encoded_is_decoded(message: Any, header: dict[str, Any]) -> None:
    kind, data = frame.serialized(message)
    decoded = frame.decoded(frame.message_body(kind, data, header))
    assert decoded.message == message
    assert decoded.header == header
    if isinstance(message, str | bytes):
        assert decoded.content == message


def test_json_is_canonical() -> None:
    assert frame.canonical({"b": [1, 2.5, None], "a": "é"}) == '{"a":"é","b":[1,2.5,null]}'.encode()


@pytest.mark.parametrize(
    "body", [b"", b"t", b"t\0", b"x\0\0", b"t\0\1", b"t\0\2[]", b"t\0\2{", b"t\0\3{}x{}"]
)
def test_what_is_no_message(body: bytes) -> None:
    with pytest.raises(ValueError):
        frame.decoded(body)


def test_a_message_has_at_most_a_mebibyte() -> None:
    assert len(frame.message_body(frame.TEXT, b"x" * (MAX_BODY - 3))) == MAX_BODY
    with pytest.raises(ValueError, match="at most 1048576 bytes, not 1048577"):
        frame.message_body(frame.TEXT, b"x" * (MAX_BODY - 2))
    with pytest.raises(ValueError, match="excludes too many"):
        frame.message_body(frame.TEXT, b"", {"x": ["x" * 65536]})


def test_payloads() -> None:
    assert frame.parsed_payload(b"\0body") == ("", 0, b"body")
    assert frame.parsed_payload(b"\1abcd1234" + (258).to_bytes(8, "big") + b"body") == (
        "abcd1234",
        258,
        b"body",
    )
    for wrong in (b"", b"\2x", b"\1abcd1234\0"):
        with pytest.raises(ValueError, match="no payload"):
            frame.parsed_payload(wrong)


@given(st.integers(0, 2**64 - 1))
def test_positions(offset: int) -> None:
    text = frame.position_text("0123abcd", offset)
    assert frame.parsed_position(text) == ("0123abcd", offset)
    assert text.isascii()
    assert len(text) <= 64
    assert frame.position_text("", offset) == ""


@pytest.mark.parametrize(
    "text", ["", "-", "0123abcd", "0123abcd-", "0123abcd-É", "x" * 99, 5, None]
)
def test_what_is_no_position(text: object) -> None:
    assert frame.parsed_position(text) is None


def test_base36() -> None:
    assert [frame.base36(number) for number in (0, 35, 36, 1295)] == ["0", "z", "10", "zz"]
