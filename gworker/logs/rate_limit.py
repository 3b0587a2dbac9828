"""Messages that repeat themselves: the first ones in full, then their number.

A handler that raises on every message would write its traceback thousands of times a second. What
counts as the same message: its logger, level and template, its `kind` (`extra={"kind": ...}`), and
of an exception its type and the two places that tell most, where user code began and where it was
raised; of one that is only named in the message, the last of the places that led to it and to its
cause. No part of that is a peer's to choose. Nothing is lost silently: the number of those left out
is told when their window ends, when they are forgotten, and at exit.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Hashable
from types import CodeType, TracebackType

WINDOW = 10.0
"""Seconds over which messages are counted."""

BURST = 10
"""How many of the same in a window are logged; one, if there were more in the window before."""

MOST = 256
"""Messages that are told apart; for a further one, that with the oldest window is forgotten."""

PLACES = 3

MAX_TEXT = 500
"""Characters of the message in the line that tells its number."""


class _Window:
    __slots__ = ("allowed", "began", "left_out", "level", "passed", "text")

    def __init__(self, began: float, allowed: int, level: int, text: str) -> None:
        self.began = began
        self.allowed = allowed
        self.level = level
        self.text = text
        self.passed = 0
        self.left_out = 0


class Repeats(logging.Filter):
    """Lets through what has not been said too often. Only records of `logger` from `floor` on are
    counted."""

    def __init__(
        self,
        logger: logging.Logger,
        tell: Callable[[logging.LogRecord], object],
        floor: int,
        burst: int = BURST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._logger = logger
        self._tell = tell
        self._floor = floor
        self._burst = burst
        self._clock = clock
        self._windows: dict[Hashable, _Window] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """False if `record` is one too many."""
        if (
            record.name != self._logger.name
            or record.levelno < self._floor
            or hasattr(record, "repeated")
        ):
            return True
        key, now = _key(record), self._clock()
        window = self._windows.get(key)
        if window is None or now - window.began >= WINDOW:
            window = self._renew(key, window, now, record)
        if window.passed < window.allowed:
            window.passed += 1
            return True
        window.left_out += 1
        return False

    def _renew(
        self, key: Hashable, before: _Window | None, now: float, record: logging.LogRecord
    ) -> _Window:
        goes_on = before is not None and before.left_out > 0 and now - before.began < 2 * WINDOW
        self._forget(key, now)
        if len(self._windows) >= MOST:
            self._forget(
                next(iter(self._windows)), now
            )  # a dict keeps the order in which windows began
        window = _Window(now, 1 if goes_on else self._burst, record.levelno, _text(record))
        self._windows[key] = window
        return window

    def tick(self) -> None:
        """Tell what was left out in windows that have ended. To be called about once a second."""
        now = self._clock()
        for key, window in list(self._windows.items()):
            age = now - window.began
            if age >= WINDOW:
                if window.left_out and age < 2 * WINDOW:
                    self._forget(key, now)
                    self._windows[key] = _Window(
                        now, 1, window.level, window.text
                    )  # if it goes on, one is enough
                else:
                    self._forget(key, now)

    def flush(self) -> None:
        """Tell everything that was left out, and forget it."""
        for key in list(self._windows):
            self._forget(key, self._clock())

    def _forget(self, key: Hashable, now: float) -> None:
        window = self._windows.pop(key, None)
        if window is not None and window.left_out:
            self._say(window, now)

    def _say(self, window: _Window, now: float) -> None:
        left_out, window.left_out = window.left_out, 0
        seconds = max(0.1, now - window.began)
        text = f"{window.text}: repeated {left_out} times in the last {seconds:.1f} s"
        record = self._logger.makeRecord(
            self._logger.name,
            window.level,
            __file__,
            0,
            text,
            (),
            None,
            extra={"repeated": left_out},
        )
        self._tell(record)


def _text(record: logging.LogRecord) -> str:
    """What is repeated, in one line."""
    try:
        text = record.getMessage().partition("\n")[0]
    except Exception:  # arguments that do not fit the template: the handler says so
        text = str(record.msg)
    if record.exc_info and record.exc_info[0] is not None:
        text += f" ({record.exc_info[0].__name__}{_place(record.exc_info[2])})"
    return text[:MAX_TEXT]


def _key(record: logging.LogRecord) -> Hashable:
    template = record.msg if isinstance(record.msg, str) else type(record.msg)
    arguments = record.args if isinstance(record.args, tuple) else ()
    named = tuple(_fault(each) for each in arguments if isinstance(each, BaseException))
    what = (record.levelno, template, getattr(record, "kind", None), named)
    if not record.exc_info or record.exc_info[0] is None:
        return what
    return (*what, record.exc_info[0], *_ends(record.exc_info[2]))


def _fault(error: BaseException) -> Hashable:
    """Which of all faults it is: by where it and its first cause were raised, and by its kind and
    status, if any."""
    first = error
    while first.__context__ is not None:
        first = first.__context__
    kind = (type(error), type(first), getattr(error, "kind", None), getattr(error, "status", None))
    return (*kind, _last(error.__traceback__), _last(first.__traceback__))


def _last(traceback: TracebackType | None) -> tuple[tuple[CodeType, int], ...]:
    """The last places: a fault may be raised by a function that only raises."""
    places: deque[tuple[CodeType, int]] = deque(maxlen=PLACES)
    while traceback is not None:
        places.append((traceback.tb_frame.f_code, traceback.tb_lineno))
        traceback = traceback.tb_next
    return tuple(places)


def _ends(traceback: TracebackType | None) -> tuple[CodeType, int, CodeType, int] | tuple[()]:
    """The second frame (the first is ours, which called user code) and the last, each with its
    line."""
    if traceback is None:
        return ()
    first = last = traceback.tb_next or traceback
    while last.tb_next is not None:
        last = last.tb_next
    return (first.tb_frame.f_code, first.tb_lineno, last.tb_frame.f_code, last.tb_lineno)


def _place(traceback: TracebackType | None) -> str:
    ends = _ends(traceback)
    return f" at {ends[2].co_filename}:{ends[3]}" if ends else ""
