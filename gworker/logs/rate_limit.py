"""Messages that repeat themselves: the first ones in full, then their number.

A handler that raises on every message would write its traceback thousands of times a second. What
counts as the same message: its logger, level and template, its `kind` (`extra={"kind": ...}`), and
of each exception in it the type and the last places that led to it. No part of that is a peer's to
choose. Nothing is lost silently: the number of those left out is logged when their window ends,
when they are forgotten, and at exit.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from traceback import walk_tb

WINDOW = 10.0  # seconds over which messages are counted

# How many of the same in a window are logged; one, if there were more in the window before.
BURST = 10

# Messages that are told apart; for a further one, that with the oldest window is forgotten.
MOST = 256

MOST_CAUSES = 100  # that are followed

PLACES = 3  # A fault may be raised by a function that only raises: so the last three places.

MAX_TEXT = 500  # characters of the message in the line that has its number


@dataclass(slots=True)
class _Window:
    began: float
    allowed: int
    level: int
    text: str
    count: int = 0

    @property
    def left_out(self) -> int:
        return max(0, self.count - self.allowed)


class RateLimit(logging.Filter):
    """Lets through what was not logged too often.

    Records of `logger` from level `floor` on are counted. emit: logs a record with a number.
    """

    def __init__(
        self,
        logger: logging.Logger,
        emit: Callable[[logging.LogRecord], object],
        floor: int,
        burst: int = BURST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._logger = logger
        self._emit = emit
        self._floor = floor
        self._burst = burst
        self._clock = clock
        self._windows: dict[Hashable, _Window] = {}  # in the order in which they began

    def filter(self, record: logging.LogRecord) -> bool:
        """False if `record` is one too many."""
        is_ours = record.name == self._logger.name and record.levelno >= self._floor
        if not is_ours or hasattr(record, "repeated"):
            return True
        key, now = _key(record), self._clock()
        window = self._windows.get(key)
        if window is None or now - window.began >= WINDOW:
            window = self._begin(key, now, record.levelno, _text(record))
        window.count += 1
        return window.count <= window.allowed

    def tick(self) -> None:
        """Log what was left out in windows that have ended. To be called about once a second."""
        now = self._clock()
        for key, window in list(self._windows.items()):
            if now - window.began >= WINDOW:
                if window.left_out:
                    self._begin(key, now, window.level, window.text)
                else:
                    self._end(key, now)

    def flush(self) -> None:
        """Log everything that was left out, and forget it."""
        for key in list(self._windows):
            self._end(key, self._clock())

    def _begin(self, key: Hashable, now: float, level: int, text: str) -> _Window:
        before = self._end(key, now)
        if len(self._windows) >= MOST:
            self._end(next(iter(self._windows)), now)
        goes_on = before is not None and before.left_out and now - before.began < 2 * WINDOW
        window = _Window(now, 1 if goes_on else self._burst, level, text)
        self._windows[key] = window
        return window

    def _end(self, key: Hashable, now: float) -> _Window | None:
        window = self._windows.pop(key, None)
        if window is not None and (number := window.left_out):
            seconds = max(0.1, now - window.began)
            text = f"{window.text}: repeated {number} times in the last {seconds:.1f} s"
            name, extra = self._logger.name, {"repeated": number}
            self._emit(
                self._logger.makeRecord(
                    name, window.level, __file__, 0, text, (), None, extra=extra
                )
            )
        return window


def _key(record: logging.LogRecord) -> Hashable:
    template = record.msg if isinstance(record.msg, str) else type(record.msg)
    raised = record.exc_info[1] if record.exc_info else None
    values = (*record.args, raised) if isinstance(record.args, tuple) else (raised,)
    faults = tuple(_fault(each) for each in values if isinstance(each, BaseException))
    return record.levelno, template, getattr(record, "kind", None), faults


def _fault(error: BaseException) -> Hashable:
    # What tells it from other faults: its kind, and where it and its first cause arose. In
    # user code, causes may form a circle, and attributes of these names may hold or do anything.
    first = error
    for _ in range(MOST_CAUSES):
        if first.__context__ is not None:
            first = first.__context__
    own = (vars(error).get(name) for name in ("kind", "status"))
    kind = tuple(each for each in own if isinstance(each, str | int))
    return type(error), kind, _places(error), type(first), _places(first)


def _places(error: BaseException) -> Hashable:
    steps = walk_tb(error.__traceback__)
    return tuple(deque(((frame.f_code, line) for frame, line in steps), maxlen=PLACES))


def _text(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage().partition("\n")[0]
    except Exception:  # arguments that do not fit the template: the handler says so
        text = str(record.msg)
    if record.exc_info and record.exc_info[0] is not None:
        last = deque(walk_tb(record.exc_info[2]), maxlen=1)
        place = "".join(f" at {frame.f_code.co_filename}:{line}" for frame, line in last)
        text += f" ({record.exc_info[0].__name__}{place})"
    return text[:MAX_TEXT]
