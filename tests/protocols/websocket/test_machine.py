"""Frames, messages and goodbyes, which both ends have in common, at the server's end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websocket_bytes import MASK, closing, frame, handshake, make, opened, text

from gworker.errors import ProtocolError
from gworker.protocols import EOF, MORE, NEED_DATA, Handshake
from gworker.protocols.base import STEPS

# --- messages


LARGE = bytes(range(256)) * 256

MESSAGES = {
    "text": (text("hé€𝄞"), ["hé€𝄞"]),
    "empty text": (text(""), [""]),
    "binary": (frame(0x82, b"\xff\0"), [b"\xff\0"]),
    "empty binary": (frame(0x82), [b""]),
    **{
        f"{n} bytes": (frame(0x82, LARGE[:n]), [LARGE[:n]])
        for n in (1, 125, 126, 127, 65535, 65536)
    },
    "two": (text("a") + frame(0x82, b"b"), ["a", b"b"]),
    "fragments": (text("a", 0x01) + text("b", 0x00) + text("c", 0x80), ["abc"]),
    "empty fragments": (text("", 0x01) + text("", 0x00) + text("", 0x80), [""]),
    "binary fragments": (frame(0x02, b"\xff") + frame(0x80, b"\xfe"), [b"\xff\xfe"]),
    "character over fragments": (
        text(b"\xf0\x9d", 0x01) + text(b"\x84", 0x00) + text(b"\x9e", 0x80),
        ["𝄞"],
    ),
    "pong between": (text("a", 0x01) + frame(0x8A, b"x") + text("b", 0x80), ["ab"]),
    "other mask": (
        frame(0x81, b"abc", b"\0\0\0\0") + frame(0x82, b"abcdef", b"\xff\xfe\xfd\xfc"),
        ["abc", b"abcdef"],
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages(drive, case):
    data, messages = MESSAGES[case]
    transcript = drive.every_way(opened, data + text("end"))
    assert transcript.error is None
    assert transcript.events == [*messages, "end"]
    assert [type(event) for event in transcript.events[:-1]] == [
        type(message) for message in messages
    ]


@given(st.lists(st.sampled_from(sorted(MESSAGES)), max_size=6), st.lists(st.integers(0)))
def test_any_cut_gives_the_same_messages(drive, cases, cuts):
    data = b"".join(MESSAGES[case][0] for case in cases)
    expected = [message for case in cases for message in MESSAGES[case][1]]
    assert drive.cut(opened, data, cuts).events == expected


@given(st.binary(max_size=60), st.lists(st.integers(0)))
def test_any_bytes_give_the_same_in_any_cut(drive, data, cuts):
    assert drive.cut(opened, data, cuts, end=True) == drive(opened(), [data], end=True)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0x81, 0x01, 0x80, 0x00, 0x82, 0x89, 0x88]), st.binary(max_size=9)
        )
    ),
    st.data(),
)
def test_any_frames_give_the_same_in_any_cut(drive, frames, data):
    wire = b"".join(frame(first, payload) for first, payload in frames)
    cuts = data.draw(st.lists(st.integers(0, len(wire))))
    whole = drive(opened(), [wire], end=True)
    cut = drive.cut(opened, wire, cuts, end=True)
    assert (cut.events, cut.error) == (whole.events, whole.error)
    assert cut.output == whole.output


@pytest.mark.parametrize(
    ("message", "data"),
    [
        ("é", b"\x81\x02\xc3\xa9"),
        ("", b"\x81\x00"),
        (b"\xff", b"\x82\x01\xff"),
        (bytearray(b"\xff"), b"\x82\x01\xff"),
        (memoryview(b"\xff"), b"\x82\x01\xff"),
        (memoryview(b"abcd").cast("I"), b"\x82\x04abcd"),
        (b"x" * 125, b"\x82\x7d" + b"x" * 125),
        (b"x" * 126, b"\x82\x7e\x00\x7e" + b"x" * 126),
        (b"x" * 65535, b"\x82\x7e\xff\xff" + b"x" * 65535),
        (b"x" * 65536, b"\x82\x7f\0\0\0\0\0\1\0\0" + b"x" * 65536),
        ("x" * 126, b"\x81\x7e\x00\x7e" + b"x" * 126),
        ({"a": "é"}, b"\x81\x0b" + '{"a": "é"}'.encode()),
        ([1], b"\x81\x03[1]"),
    ],
)
def test_encode(message, data):
    assert opened().encode(message) == data


@pytest.mark.parametrize("message", [None, 1, {1}, (b"x",)])
def test_wrong_type_is_named(message):
    with pytest.raises(
        TypeError, match=rf"websocket protocol sends str.*not {type(message).__name__}"
    ):
        opened().encode(message)


# --- control frames


def test_pings_are_answered_in_order_also_within_a_message(drive):
    data = (
        frame(0x89)
        + text("a", 0x01)
        + frame(0x89, b"x" * 125)
        + text("b", 0x80)
        + frame(0x89, b"2")
    )
    transcript = drive.every_way(opened, data)
    assert transcript.events == ["ab"]
    assert transcript.output == b"\x8a\x00\x8a\x7d" + b"x" * 125 + b"\x8a\x012"


def until_data_is_needed(protocol):
    """How often there was MORE before."""
    asked = 0
    while (event := protocol.next_event()) is MORE:
        asked += 1
    assert event is NEED_DATA
    return asked


def test_many_pings_in_one_read():
    protocol = opened()
    protocol.receive_data(frame(0x89) * 10_000)
    asked = until_data_is_needed(protocol)
    assert asked == 10_000 // STEPS, (
        "what is read is many frames, so others have their turn in between"
    )
    assert protocol.data_to_send() == b"\x8a\x00" * 10_000
    assert protocol._output == b""


def test_our_ping():
    protocol = opened()
    assert protocol.ping() == b"\x89\x00"
    assert protocol.ping(b"ab") == b"\x89\x02ab"
    with pytest.raises(ValueError, match="125"):
        protocol.ping(b"x" * 126)
    protocol.close()
    assert protocol.ping() == make().ping() == b""


# --- the closing handshake

LEGAL = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]
ILLEGAL = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


@pytest.mark.parametrize("code", LEGAL)
def test_close_of_the_peer_is_echoed(drive, code):
    transcript = drive.every_way(opened, text("last") + closing(code, b"why") + text("dropped"))
    assert transcript.events == ["last", EOF]
    assert transcript.output == b"\x88\x02" + code.to_bytes(2)


def test_close_code_and_reason_are_kept():
    for data, code, reason in (
        (closing(4001, "é".encode()), 4001, "é"),
        (closing(1000), 1000, ""),
        (closing(), 1005, ""),
        (b"", 1006, ""),
    ):
        protocol = opened()
        assert protocol.close_code == 0
        protocol.receive_data(data)
        assert protocol.next_event() is EOF
        assert (protocol.close_code, protocol.close_reason) == (code, reason)


def test_close_without_code_is_echoed_without(drive):
    assert drive.every_way(opened, closing()).output == b"\x88\x00"


def test_answers_may_precede_the_echo():
    """The peer's Close is found while handlers of earlier messages run; theirs go first, the echo
    is last."""
    protocol = opened()
    protocol.receive_data(text("a") + closing(1001))
    assert protocol.next_event() == "a"
    assert protocol.next_event() is EOF
    assert not protocol.has_output
    assert protocol.encode("answer") == b"\x81\x06answer"
    assert protocol.close(4000, "ignored") == b"\x88\x02\x03\xe9"
    assert not protocol.awaits_peer_close
    assert protocol.close() == b""
    with pytest.raises(RuntimeError, match="Close frame"):
        protocol.encode("x")


def test_pongs_precede_the_echo(drive):
    assert (
        drive(opened(), [frame(0x89, b"p") + closing(1000)]).output == b"\x8a\x01p\x88\x02\x03\xe8"
    )


def test_our_close():
    protocol = opened()
    assert not protocol.awaits_peer_close
    assert protocol.close(4000, "é") == b"\x88\x04\x0f\xa0\xc3\xa9"
    assert protocol.awaits_peer_close
    assert protocol.close() == b""
    with pytest.raises(RuntimeError, match="closed"):
        protocol.encode("x")
    protocol.receive_data(text("dropped") + text("a", 0x01) + frame(0x89, b"p") + text("b", 0x80))
    assert protocol.next_event() is NEED_DATA
    assert protocol.data_to_send() == b"\x8a\x01p"
    protocol.receive_data(closing(4000))
    assert protocol.next_event() is EOF
    assert not protocol.has_output
    assert protocol.close_code == 4000
    assert protocol.close() == b""


def test_our_close_within_a_message_of_the_peer():
    protocol = opened()
    data = text("a" * 1000)
    protocol.receive_data(data[:500])
    protocol.next_event()
    protocol.close()
    assert protocol._message.data == b""
    protocol.receive_data(data[500:] + frame(0x82, b"\xff" * 69_000)[:-1])
    assert protocol.next_event() is NEED_DATA
    assert protocol._message.data == b""
    protocol.receive_data(b"x" + closing(1000))
    assert protocol.next_event() is EOF


def test_end_without_a_close_frame():
    for before, goodbye in ((opened(), b""), (opened(), b"\x88\x02\x03\xe8")):
        if goodbye:
            assert before.close() == goodbye
        before.receive_data(b"\x81\x85")
        assert before.next_event() is NEED_DATA
        before.receive_data(b"")
        assert before.next_event() is before.next_event() is EOF
        assert before.close_code == 1006
        assert before.close() == b""


@pytest.mark.parametrize("code", ILLEGAL)
def test_codes_that_may_not_be_sent(code):
    protocol = opened()
    with pytest.raises(ValueError, match=f"{code} is not a close code"):
        protocol.close(code)
    assert protocol.close(1000)


def test_reason_is_never_cut():
    assert len(opened().close(1000, "é" * 61 + "x")) == 127
    with pytest.raises(ValueError, match="123 bytes of UTF-8, not 124"):
        opened().close(1000, "é" * 62)


# --- what the peer may not do


VIOLATIONS = {
    "no mask": (1002, b"\x81\x05hello", 2),
    "RSV1": (1002, frame(0xC1, b"x"), 1),
    "RSV2": (1002, frame(0xA1, b"x"), 1),
    "RSV3": (1002, frame(0x91, b"x"), 1),
    **{
        f"opcode {opcode}": (1002, frame(0x80 | opcode), 1)
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    },
    "fragmented ping": (1002, frame(0x09), 1),
    "fragmented close": (1002, frame(0x08), 1),
    "long ping": (1002, frame(0x89, b"x" * 126), 2),
    "long close": (1002, closing(1000, b"x" * 124), 2),
    "continuation of nothing": (1002, frame(0x80), 1),
    "16-bit length for 125": (1002, b"\x82\xfe\x00\x7d" + MASK + b"x" * 125, 4),
    "64-bit length for 65535": (1002, b"\x82\xff" + (65535).to_bytes(8) + MASK, 10),
    "64-bit length with the highest bit": (1002, b"\x82\xff\x80" + bytes(7) + MASK, 10),
    "too long": (1009, frame(0x82, b"x" * 70_001), 10),
    "far too long": (1009, b"\x82\xff" + (1 << 62).to_bytes(8) + MASK, 10),
    "half a close code": (1002, frame(0x88, b"\x03"), 7),
    **{f"close code {code}": (1002, closing(code), 8) for code in ILLEGAL},
    "reason that is no UTF-8": (1007, closing(1000, b"\xff"), 9),
    "text that is no UTF-8": (1007, text(b"ab\xff" + b"c" * 500), 11),
    "overlong text": (1007, text(b"\xc0\x80" + b"c" * 500), 9),
    "surrogate": (1007, text(b"\xed\xa0\x80" + b"c" * 500), 10),
    "beyond Unicode": (1007, text(b"\xf4\x90\x80\x80" + b"c" * 500), 10),
    "unfinished character": (1007, text(b"\xe2\x82"), 8),
}
"""Close code, frame, and after how many of its bytes the violation is certain."""


@pytest.mark.parametrize("case", VIOLATIONS)
def test_violations(drive, case):
    code, data, certain = VIOLATIONS[case]
    transcript = drive.every_way(opened, text("before") + frame(0x89) + data + text("after"))
    assert transcript.events == ["before"]
    assert transcript.output.startswith(b"\x8a\x00\x88")
    assert transcript.output[4:6] == code.to_bytes(2)
    assert transcript.output[3] == len(transcript.output) - 4 <= 125
    first = drive.every_way(
        opened, data + text("after")
    )  # it may be judged elsewhere than behind a ping
    assert first.events == []
    assert first.output[2:4] == code.to_bytes(2)
    assert drive(opened(), [data[: certain - 1]]).error is None
    assert drive(opened(), [bytes([byte]) for byte in data[:certain]]).error is not None


def test_new_message_within_a_message(drive):
    transcript = drive.every_way(opened, text("a", 0x01) + text("b"))
    assert transcript.output[2:4] == (1002).to_bytes(2)


def test_each_message_in_pieces_has_a_number_of_its_own():
    """Also where the memory of one is used again for the next."""
    protocol, received, numbers = opened(200_000), 0, []
    data = text("x" * 100_000)
    for _ in range(50):
        for piece in (data[:70_000], data[70_000:90_000], data[90_000:]):
            protocol.receive_data(piece)
            received += len(piece)
            if protocol.next_event() is NEED_DATA and piece is not data[90_000:]:
                numbers.append(protocol.message_start(received))
        assert protocol.next_event() is NEED_DATA
    assert numbers[::2] == numbers[1::2]
    assert len(set(numbers)) == 50


def test_fragments_are_too_long_together(drive):
    transcript = drive.every_way(lambda: opened(10), frame(0x02, b"x" * 6) + frame(0x80, b"x" * 5))
    assert transcript.output[2:4] == (1009).to_bytes(2)
    assert drive.every_way(
        lambda: opened(10), frame(0x02, b"x" * 6) + frame(0x80, b"x" * 4)
    ).events == [b"x" * 10]
    assert drive.every_way(lambda: opened(10), text("x" * 11)).output[2:4] == (1009).to_bytes(2)


def test_text_over_fragments_is_checked_at_once(drive):
    data = text(b"\xe2", 0x01) + text(b"\x82", 0x00) + text(b"ab", 0x00)
    assert drive.every_way(opened, data[:-1]).output[2:4] == (1007).to_bytes(2)
    assert drive.every_way(opened, data[:-2]).error is None


def test_answers_to_earlier_messages_may_precede_the_reply():
    protocol = opened()
    protocol.receive_data(text("a") + b"\xff")
    assert protocol.next_event() == "a"
    with pytest.raises(ProtocolError):
        protocol.next_event()
    assert protocol.encode("answer") == b"\x81\x06answer"
    assert protocol.close_code == 1006
    assert protocol.close() == b""


def test_violation_after_our_close_has_no_reply():
    protocol = opened()
    protocol.close()
    protocol.receive_data(b"\xff")
    with pytest.raises(ProtocolError) as caught:
        protocol.next_event()
    assert caught.value.reply == b""
    assert protocol.next_event() is EOF


# --- memory


def test_large_message_in_small_reads_is_linear():
    protocol = opened(1 << 24)
    data = frame(0x82, LARGE * 64)
    for at in range(0, len(data), 65536):
        assert protocol._buffer == b""
        protocol.receive_data(data[at : at + 65536])
        event = protocol.next_event()
    assert event == LARGE * 64


def test_tiny_fragments_do_not_add_up():
    protocol = opened(1 << 20)
    protocol.receive_data(frame(0x02, b"x"))
    with pytest.raises(ProtocolError, match="longer"):
        for _ in range(1 << 20):
            assert protocol.next_event() is NEED_DATA
            protocol.receive_data(frame(0x00, b"x" * 100) * 10)
    assert protocol._message is None


def test_memory_is_bounded_by_the_limit_and_one_read():
    protocol = opened(1000)
    protocol.receive_data(frame(0x02, b"x" * 1000))
    assert protocol.next_event() is NEED_DATA
    for _ in range(1000):
        protocol.receive_data(frame(0x00) * 100)
        assert until_data_is_needed(protocol) == 100 // STEPS
        assert len(protocol._message.data) + len(protocol._buffer) <= 1600


# --- what we have said at the end


def test_the_farewell_is_ours_if_we_were_the_first():
    protocol = opened()
    with pytest.raises(ValueError, match="1005"):
        protocol.close(1005)
    assert protocol.farewell == (0, "")
    protocol.close(4001, "bye")
    assert protocol.farewell == (4001, "bye")


def test_the_farewell_to_a_violation_says_why():
    protocol = opened(10)
    protocol.receive_data(text("x" * 11))
    with pytest.raises(ProtocolError):
        protocol.next_event()
    assert protocol.farewell == (1009, "message longer than 10 bytes")


def test_answering_a_goodbye_is_not_saying_one():
    protocol = opened()
    protocol.receive_data(closing(1001))
    assert protocol.next_event() is EOF
    protocol.close(1000, "late")
    assert (protocol.farewell, protocol.close_code) == ((0, ""), 1001)


# --- phases


def deciding():
    protocol = make()
    protocol.receive_data(handshake())
    assert isinstance(protocol.next_event(), Handshake)
    return protocol


def closed_by_us():
    protocol = opened()
    protocol.close()
    assert protocol.awaits_peer_close
    return protocol


def closed_by_the_peer():
    protocol = opened()
    protocol.receive_data(closing(1000))
    assert protocol.next_event() is EOF
    return protocol


def over():
    protocol = closed_by_the_peer()
    protocol.close()
    return protocol


@pytest.mark.parametrize("phase", [make, deciding, opened, closed_by_us, closed_by_the_peer, over])
def test_reading_can_end_in_every_phase_and_only_an_open_one_may_still_answer(phase):
    protocol = phase()
    if phase is deciding:
        protocol.refuse_handshake()
    protocol.receive_data(b"")
    assert protocol.next_event() is EOF
    assert protocol.next_event() is EOF
    if phase in (opened, closed_by_the_peer):
        assert protocol.encode("still") == b"\x81\x05still"
    elif phase is not make:  # before the request what is sent is held back
        with pytest.raises(RuntimeError):
            protocol.encode("no more")
    protocol.close()
    with pytest.raises(RuntimeError):
        protocol.encode("no more")
    assert protocol.close() == b""


@pytest.mark.parametrize("phase", [opened, closed_by_the_peer])
def test_a_close_frame_is_sent_once(phase):
    protocol = phase()
    assert protocol.close() == b"\x88\x02\x03\xe8"
    assert protocol.close() == b""
    protocol.receive_data(closing(1000))
    assert protocol.next_event() is EOF
    assert protocol.close() == protocol.data_to_send() == b""


@pytest.mark.parametrize("phase", [make, opened, closed_by_us, closed_by_the_peer, over])
def test_nothing_opens_twice(phase):
    with pytest.raises(RuntimeError, match="no handshake to answer"):
        phase().accept_handshake()
