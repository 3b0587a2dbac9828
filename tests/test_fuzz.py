"""The fuzz targets over their seeds and over mutations of them: a moment of what `make fuzz` does
for long."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from driving import Transcript
from hypothesis import given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent / "fuzz"
sys.path.append(str(HERE))

from targets import LIMIT, TARGETS, held, story  # noqa: E402


def seeds(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((HERE / "corpus" / name).iterdir())]


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    found = seeds(name)
    assert found
    for seed in found:
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_of_seeds(name: str) -> None:
    known = seeds(name)

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def mutate(data: st.DataObject) -> None:
        bytes_ = bytearray(data.draw(st.sampled_from(known)))
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(bytes_)))
            length = data.draw(st.integers(0, 3))
            bytes_[at : at + length] = data.draw(st.binary(max_size=4) | st.sampled_from(known))
        TARGETS[name](bytes(bytes_[:4096]))

    mutate()


def test_a_target_sees_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    from gworker.protocols.text import TextProtocol

    TARGETS["text"](b"\0one\ntwo\n")
    with pytest.raises(AssertionError, match="it holds"):
        held(TextProtocol(LIMIT), b"a line that has no end yet", overhead=-LIMIT)
    monkeypatch.setattr(TextProtocol, "next_event", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        TARGETS["text"](b"\0one\ntwo\n")


def test_the_command_finds_what_it_needs() -> None:
    seed = next((HERE / "corpus" / "text").iterdir())
    command = [sys.executable, str(HERE / "fuzz.py"), "--only", "text", "--replay", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_clock_may_go_on_between_two_runs() -> None:
    one, other = (
        Transcript(
            output=b"HTTP/1.1 200 OK\r\nDate: Mon, 30 Nov 2026 22:34:%d GMT\r\n\r\n" % second
        )
        for second in (12, 13)
    )
    assert story(one, masks=False) == story(other, masks=False)
