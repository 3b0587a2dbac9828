"""Signals as bytes in a socket: the handler does nothing, the kernel's byte wakes the arbiter's
loop.

signal.set_wakeup_fd writes the signal's number (signal(7) numbers fit a byte) into a non-blocking
socket at the moment it arrives; the arbiter reads it when its turn comes, where it may log and
allocate. If the socket is full the signal is one of hundreds that wait already.
"""

from __future__ import annotations

import _socket
import signal
from collections.abc import Iterable
from types import FrameType


def _nothing(number: int, frame: FrameType | None) -> None:
    """The wake-up descriptor has done it all."""


class Wakeup:
    """The self-pipe of one process."""

    def __init__(self) -> None:
        self._read, self._write = _socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        self.ignored: set[int] = set()
        """The signals that were ignored before they came here, as SIGHUP is under nohup(1)."""

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._read.fileno()

    def install(self, signals: Iterable[int]) -> None:
        """Route `signals` here; those that were blocked until now and came come now."""
        signals = frozenset(signals)
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for number in signals:
            if signal.signal(number, _nothing) is signal.SIG_IGN:
                self.ignored.add(number)
            signal.siginterrupt(number, False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    def read(self) -> list[int]:
        """The numbers of the signals that came since the last call."""
        try:
            return list(self._read.recv(4096))
        except BlockingIOError:
            return []

    def close_in_child(self, signals: Iterable[int]) -> None:
        """In a forked child: forget all this.

        The handlers that do nothing stay, but for TERM and CHLD: a Ctrl-C or a HUP for the whole
        process group is the arbiter's business, also while the child boots. (SIG_IGN would reach,
        through exec, the programs that user code starts.)
        """
        signal.set_wakeup_fd(-1)
        for number in {signal.SIGTERM, signal.SIGCHLD} & set(signals):
            signal.signal(number, signal.SIG_DFL)
        self._read.close()
        self._write.close()


def restore() -> None:
    """In a process that user code has forked: signals mean again what they mean to every
    program."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if signal.getsignal(number) is _nothing:
            signal.signal(
                number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            )
