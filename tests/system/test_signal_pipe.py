"""Signals as bytes in a socket."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator

import pytest

from gworker.system import signal_pipe
from gworker.system.signal_pipe import SignalPipe

OURS = (signal.SIGUSR1, signal.SIGUSR2)


@pytest.fixture
def pipe() -> Iterator[SignalPipe]:
    before = {number: signal.getsignal(number) for number in OURS}
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    made = SignalPipe()
    made.install(OURS)
    yield made
    made.close_in_child(())
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_wakes_and_is_read_once(pipe: SignalPipe) -> None:
    assert pipe.read() == []
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)
    assert select.select([pipe], [], [], 10)[0]
    assert sorted(pipe.read()) == sorted(OURS)
    assert pipe.read() == []


def test_what_was_ignored_before_is_known(pipe: SignalPipe) -> None:
    assert pipe.ignored == {signal.SIGUSR2}


def test_a_fork_of_user_code_has_pythons_own_handlers(pipe: SignalPipe) -> None:
    signal_pipe.restore()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
