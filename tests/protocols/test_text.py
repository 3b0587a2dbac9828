from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gworker.errors import ProtocolError
from gworker.protocols import EOF, NEED_DATA
from gworker.protocols.text import TextProtocol


def make() -> TextProtocol:
    return TextProtocol(8)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"hello\n", ["hello"]),
        (b"hello\r\n", ["hello"]),
        (b"\n\r\n", ["", ""]),
        (b"a\r\r\n", ["a\r"]),
        (b"a\rb\n", ["a\rb"]),
        (b"one\ntwo\r\nth", ["one", "two"]),
        (b"12345678\n12345678\r\n", ["12345678", "12345678"]),
    ],
)
def test_lines(drive, data, lines):
    transcript = drive.every_way(make, data)
    assert transcript.error is None
    assert transcript.events == lines


def test_rest_without_newline_is_dropped_at_the_end(drive):
    assert drive.every_way(make, b"one\ntwo", end=True).events == ["one", EOF]


@pytest.mark.parametrize(
    "data",
    [
        b"123456789\n",
        b"123456789\r\n",
        b"123456789",
        b"12345678\r\r",
        b"ok\n123456789",
        "é€𝄞\n".encode(),
    ],
)
def test_too_long_also_without_newline(drive, data):
    assert drive.every_way(make, data).error == "line longer than 8 bytes"


def test_carriage_return_may_be_the_first_half_of_the_ending(drive):
    assert drive.every_way(make, b"12345678\r").error is None


@pytest.mark.parametrize("data", [b"\xff\n", b"a\xc3\n", b"\xed\xa0\x80\n"])
def test_only_utf8(drive, data):
    error = drive.every_way(make, data).error
    assert error is not None
    assert "not UTF-8" in error


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=20)
    ),
    st.lists(st.integers(0)),
)
def test_any_cut_gives_the_same_lines(drive, lines, cuts):
    data = "".join(line + "\n" for line in lines).encode()
    assert drive.cut(lambda: TextProtocol(100), data, cuts, end=True).events == [*lines, EOF]


def test_buffer_stays_within_limit_and_one_read():
    protocol = TextProtocol(1000)
    fed = 0
    with pytest.raises(ProtocolError):
        while True:
            protocol.receive_data(b"x" * 300)
            fed += 300
            assert fed <= 1300
            protocol.next_event()
    for _ in range(3):
        protocol.receive_data(b"x" * 300)
        assert protocol.next_event() is EOF
    assert protocol.take_unparsed() == b""


def test_long_line_in_small_reads_is_scanned_once():
    protocol = TextProtocol(1 << 22)
    for _ in range(1 << 10):
        protocol.receive_data(b"x" * 1024)
        assert protocol.next_event() is NEED_DATA
    assert protocol._scanned == 1 << 20
    protocol.receive_data(b"\n")
    assert len(protocol.next_event()) == 1 << 20


@pytest.mark.parametrize(
    "message", ["é", b"\xc3\xa9", bytearray(b"\xc3\xa9"), memoryview(b"\xc3\xa9")]
)
def test_encode(message):
    assert make().encode(message) == b"\xc3\xa9\n"


@pytest.mark.parametrize("message", ["a\nb", b"a\n"])
def test_newline_in_a_message_is_refused(message):
    with pytest.raises(ValueError, match="newline"):
        make().encode(message)


def test_wrong_type_is_named():
    with pytest.raises(TypeError, match="text protocol sends str.*not int"):
        make().encode(1)


def test_what_was_scanned_of_one_line_is_not_skipped_in_the_next():
    protocol = TextProtocol(10_000)
    protocol.receive_data(b"x" * 5000)
    assert protocol.next_event() is NEED_DATA
    protocol.receive_data(b"\nab\n" + b"y" * 6000)
    assert [protocol.next_event() for _ in range(3)] == ["x" * 5000, "ab", NEED_DATA]


def test_dict_and_list_are_json():
    assert make().encode({"a": "line\n"}) == b'{"a": "line\\n"}\n'
    assert make().encode([1]) == b"[1]\n"
