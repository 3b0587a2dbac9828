"""What a HUP means, by the terminal of the instance."""

from __future__ import annotations

import errno

import pytest

from gworker.master import terminal
from gworker.master.terminal import ECHO_SECONDS, Terminal, TerminalState


@pytest.fixture
def error(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What opening the controlling terminal gives: the last one of these."""
    answers = [0]
    monkeypatch.setattr(terminal, "_error", lambda: answers[-1])
    return answers


def test_without_a_terminal_it_is_an_order_to_reload(error: list[int]) -> None:
    error.append(errno.ENXIO)
    assert Terminal().meaning(0.0) == "reload"


def test_an_open_terminal_has_not_sent_it(error: list[int]) -> None:
    assert Terminal().meaning(0.0) == "reload"


@pytest.mark.parametrize("closed", [errno.ENXIO, errno.EIO])
def test_the_end_of_the_terminal_is_the_end(error: list[int], closed: int) -> None:
    one = Terminal()
    error.append(closed)
    assert one.meaning(0.0) == "stop"


def test_under_nohup_the_instance_outlives_its_terminal(error: list[int]) -> None:
    one = Terminal()
    one.ignore_hangup()
    error.append(errno.EIO)
    assert one.meaning(10.0) == ""
    assert one.meaning(10.0 + ECHO_SECONDS) == "", "the shell and the kernel both send one"
    assert one.meaning(10.1 + ECHO_SECONDS) == "reload"


def test_after_an_upgrade_it_is_known_whose_terminal_it_was(error: list[int]) -> None:
    error.append(errno.EIO)
    assert Terminal(TerminalState(is_ours=True, ignores_hangup=False)).meaning(0.0) == "stop"
    assert Terminal(TerminalState(is_ours=False, ignores_hangup=True)).meaning(0.0) == "reload"
