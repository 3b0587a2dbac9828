"""Large texts are decoded in slices, between which other greenlets run."""

from __future__ import annotations

import random
from urllib.parse import parse_qsl, unquote

import pytest

from gworker.http import Parameters
from gworker.http.slices import SLICE, Slices


def test_percent_decoding_in_slices_is_that_of_the_standard_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns: list[int] = []
    monkeypatch.setattr("gworker.http.slices.give_way", lambda: turns.append(1))
    pieces = random.Random(1)
    alphabet = [*"abc=%é€;", "%41", "%C3", "%A9", "%4", "%zz", "%E2%82%AC", "\U0001f600"]
    for size in (*range(30), *range(SLICE - 6, SLICE + 6), 3 * SLICE):
        text = "".join(pieces.choice(alphabet) for _ in range(size))
        assert Slices().unquoted(text) == unquote(text)
        fields = f"{text}&{text}&a&=b&&c=%20+d"
        assert list(Parameters.parse(fields).items()) == list(
            dict(parse_qsl(fields, keep_blank_values=True)).items()
        )
    assert len(turns) > 20


@pytest.mark.parametrize("codec", ["utf-8", "gb18030", "shift_jis", "utf-16", "latin-1"])
def test_charsets_are_decoded_in_slices(codec: str) -> None:
    text = "aé"[: 1 if codec == "shift_jis" else 2] * 100_000
    assert Slices().decoded(text.encode(codec), codec) == text
    if codec == "utf-8":
        with pytest.raises(ValueError):
            Slices().decoded(text.encode(codec) + b"\xc3", codec)


def test_a_form_of_many_small_fields_gives_way_too(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []
    monkeypatch.setattr("gworker.http.slices.give_way", lambda: turns.append(1))
    Parameters.parse("&".join(["a=" + "%41" * 300] * 1000))
    assert len(turns) >= 1000 * 900 // SLICE
