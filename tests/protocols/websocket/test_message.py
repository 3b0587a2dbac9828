"""A message that arrives in parts."""

from __future__ import annotations

import pytest

from gworker.core import apply_mask
from gworker.protocols.websocket.frames import Violation
from gworker.protocols.websocket.message import PartialMessage

MASK = b"\1\2\3\4"


def masked(data):
    return apply_mask(data, MASK)


@pytest.mark.parametrize("cut", range(12))
def test_payload_is_unmasked_however_it_is_cut(cut):
    data = masked("hällo wörld"[:10].encode())
    message = PartialMessage(is_text=True)
    message.begin_frame(True, len(data), MASK)
    for piece in (data[:cut], data[cut:]):
        message.add(memoryview(piece))
    assert message.left == 0
    assert message.result() == "hällo wörl"


def test_fragments():
    message = PartialMessage(is_text=False)
    for final, data in ((False, b"abc"), (False, b""), (True, b"de")):
        message.begin_frame(final, len(data), MASK)
        message.add(memoryview(masked(data)))
    assert message.is_final
    assert message.result() == b"abcde"


@pytest.mark.parametrize("data", [b"\xff", b"a\xc0", b"\xed\xa0", b"\xf4\x90"])
def test_text_is_refused_before_it_is_complete(data):
    message = PartialMessage(is_text=True)
    message.begin_frame(False, 100, b"")
    with pytest.raises(Violation, match="not UTF-8") as caught:
        message.add(memoryview(data))
    assert caught.value.code == 1007


def test_text_that_ends_within_a_character():
    message = PartialMessage(is_text=True)
    message.begin_frame(True, 1, b"")
    message.add(memoryview(b"\xc3"))
    with pytest.raises(UnicodeDecodeError):
        message.result()


def test_what_is_dropped_is_not_kept_and_not_judged():
    message = PartialMessage(is_text=True)
    message.begin_frame(True, 6, b"")
    message.add(memoryview(b"abc"))
    message.drop()
    message.add(memoryview(b"\xff\xff\xff"))
    assert message.data == b""
    assert message.left == 0


def test_its_number_is_that_of_the_first_question():
    message = PartialMessage(is_text=True)
    assert [message.noticed(received) for received in (70, 80)] == [70, 70]
