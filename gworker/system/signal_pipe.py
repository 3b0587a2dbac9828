"""Signals as bytes in a socket, the self-pipe trick: a byte wakes the arbiter's loop.

signal.set_wakeup_fd writes the signal's number into a non-blocking socket when it arrives. The
arbiter reads it in its turn, where it may log and allocate. A signal that finds the socket full is
lost; hundreds wait then already.
"""

from __future__ import annotations

import _socket
import signal
from collections.abc import Iterable
from types import FrameType


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler, so that Python writes to the wake-up descriptor."""


class SignalPipe:
    """The self-pipe of one process."""

    def __init__(self) -> None:
        kind = _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK
        self._read, self._write = _socket.socketpair(_socket.AF_UNIX, kind)
        # The signals that were ignored before `install`, as SIGHUP is under nohup(1).
        self.ignored: set[int] = set()

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._read.fileno()

    def install(self, signals: Iterable[int]) -> None:
        """Route `signals` here, and unblock them."""
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
        """In a forked child: restore TERM and CHLD.

        The other handlers, which do nothing, stay: a Ctrl-C or a HUP for the whole process group is
        for the arbiter, also while the child boots. (The programs that user code starts would
        inherit SIG_IGN.)
        """
        signal.set_wakeup_fd(-1)
        for number in {signal.SIGTERM, signal.SIGCHLD} & set(signals):
            signal.signal(number, signal.SIG_DFL)
        self._read.close()
        self._write.close()


def restore() -> None:
    """In a process that user code has forked: restore Python's own handlers."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if signal.getsignal(number) is _nothing:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)
