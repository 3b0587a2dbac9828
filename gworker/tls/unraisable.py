"""What Python cannot raise, it writes to stderr as a traceback (`sys.unraisablehook`).

What a client can cause is told in one line of the log instead, where it is counted if it repeats
itself; everything else goes to the hook that was there before. The one case: `_ssl` decodes the
name that a client asks for by SNI (RFC 6066, 3) as ASCII, before any code of ours.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

log = logging.getLogger("gworker")


def install() -> None:
    """Put it before the hook that is there; once, however often it is called."""
    if not isinstance(sys.unraisablehook, _Hook):
        sys.unraisablehook = _Hook(sys.unraisablehook)


class _Hook:
    def __init__(self, before: Any) -> None:
        self._before = before

    def __call__(self, unraisable: Any) -> None:
        error, name = unraisable.exc_value, unraisable.object
        if (
            isinstance(error, UnicodeDecodeError)
            and isinstance(name, bytes)
            and error.object == name
        ):
            log.info("TLS: a client was refused that asks for the host %r: no name in ASCII", name)
        else:
            self._before(unraisable)
