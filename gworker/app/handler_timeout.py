"""How long one callback may run, if that is not what holds for all of its process."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeVar

Function = TypeVar("Function", bound=Callable[..., object])

# The attribute of a function with a limit of its own: the seconds.
ATTRIBUTE: Final = "handler_timeout"


def handler_timeout(seconds: float) -> Callable[[Function], Function]:
    """Give a callback its own limit, in place of `--handler-timeout`; 0: none.

        @chat.on_message
        @handler_timeout(5)
        def say(connection, data): ...

    Not for a socketserver class, which has the limit of its Worker: TypeError. ValueError for what
    is no number of seconds.
    """
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds < math.inf:
        raise ValueError(f"handler_timeout({seconds!r}) is not valid, expected seconds, 0 or more")

    def decorate(function: Function) -> Function:
        if isinstance(function, type):
            name = function.__qualname__
            raise TypeError(f"{name} is a class: handler_timeout is an argument of its Worker")
        setattr(function, ATTRIBUTE, seconds)
        return function

    return decorate


def has_own_limit(function: object) -> bool:
    return getattr(function, ATTRIBUTE, 0) > 0
