"""Frames of RFC 6455, as pure functions."""

from __future__ import annotations

import pytest

from gworker.core import apply_mask
from gworker.protocols.websocket.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    RSV1,
    TEXT,
    Violation,
    check_first_byte,
    close_payload,
    frame,
    header_size,
    is_legal_code,
    masked_frame,
    parse_close,
    read_length,
)

SIZES = [0, 1, 125, 126, 0xFFFF, 0x10000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_what_is_written_can_be_read(opcode, size):
    payload = b"x" * size
    written = frame(FIN | opcode, payload)
    assert check_first_byte(written[0]) == opcode
    assert read_length(written, 0, masked=False) == size
    assert written[header_size(size, masked=False) :] == payload


@pytest.mark.parametrize("size", SIZES)
def test_a_client_masks(size):
    payload = b"x" * size
    written = masked_frame(FIN | TEXT, payload)
    start = header_size(size, masked=True)
    assert read_length(written, 0, masked=True) == size
    assert apply_mask(written[start:], written[start - 4 : start]) == payload
    assert masked_frame(FIN | TEXT, b"ab", b"\1\2\3\4")[2:] == b"\1\2\3\4" + b"``"


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (FIN | RSV1 | TEXT, "reserved bits"),
        (FIN | 0x20 | TEXT, "reserved bits"),
        (FIN | 0x3, "unknown opcode 3"),
        (FIN | 0xB, "unknown opcode 11"),
        (PING, "fragmented control frame"),
    ],
)
def test_first_bytes_that_may_not_be(first, message):
    with pytest.raises(Violation, match=message) as caught:
        check_first_byte(first)
    assert caught.value.code == 1002


@pytest.mark.parametrize("opcode", [CONTINUATION, PING, CLOSE])
def test_the_bit_for_compression_is_on_the_first_frame_of_a_message_only(opcode):
    assert check_first_byte(RSV1 | TEXT, 0x30) == TEXT
    with pytest.raises(Violation, match="begins no message"):
        check_first_byte(FIN | RSV1 | opcode, 0x30)


@pytest.mark.parametrize(
    ("data", "masked", "message"),
    [
        (b"\x81\x01", True, "without a mask"),
        (b"\x81\x81", False, "with a mask"),
        (b"\x89\x7e\x00\x7e", False, "control frame longer"),
        (b"\x81\x7e\x00\x7d", False, "shortest form"),
        (b"\x81\x7f" + (0xFFFF).to_bytes(8), False, "shortest form"),
        (b"\x81\x7f" + (1 << 63).to_bytes(8), False, "highest bit"),
    ],
)
def test_lengths_that_may_not_be(data, masked, message):
    with pytest.raises(Violation, match=message):
        read_length(data, 0, masked)


@pytest.mark.parametrize(
    "data", [b"", b"\x81", b"\x81\x7e", b"\x81\x7e\x00", b"\x81\x7f" + bytes(7)]
)
def test_lengths_that_are_incomplete(data):
    assert read_length(data, 0, masked=False) is None


def test_close_frames():
    assert parse_close(close_payload(1000, "é")) == (1000, "é")
    assert parse_close(b"") == (1005, "")


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"\x03", 1002), (b"\x03\xed", 1002), (b"\x00\x00", 1002), (b"\x03\xe8\xff", 1007)],
)
def test_close_frames_that_may_not_be(payload, code):
    with pytest.raises(Violation) as caught:
        parse_close(payload)
    assert caught.value.code == code


def test_close_codes():
    legal = [code for code in range(5001) if is_legal_code(code)]
    assert legal == [
        *(1000, 1001, 1002, 1003),
        *range(1007, 1015),
        *range(3000, 5000),
    ]


def test_what_cannot_be_sent():
    with pytest.raises(ValueError, match="not a close code"):
        close_payload(1006, "")
    with pytest.raises(ValueError, match="at most 123"):
        close_payload(1000, "x" * 124)
