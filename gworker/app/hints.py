"""Hints below errors of user code whose own text does not say what to do."""

from __future__ import annotations

import re

from gworker.app.attribute_names import connection_hint

ASYNCIO = (
    "hint: the handlers of a process share one thread, and asyncio runs one loop in a thread at "
    "a time;"
    " use gworker.blocking(asyncio.run, ...)"
)

# By the end of the text of a RuntimeError, as asyncio raises it (asyncio/runners.py,
# base_events.py).
_TEXTS = {
    "cannot be called from a running event loop": ASYNCIO,
    "Cannot run the event loop while another loop is running": ASYNCIO,
    "This event loop is already running": ASYNCIO,
}


# As Python says it, of the classes whose instances applications get.
_NO_ATTRIBUTE = re.compile(
    r"'(Connection|ClientConnection|Session|Datagram)' object has no attribute '(\w+)'"
)


def hint_for(error: BaseException | None) -> str | None:
    """One line for the log, below the traceback of `error`; None if there is nothing to add."""
    if type(error) is AttributeError and (found := _NO_ATTRIBUTE.match(str(error))):
        return f"hint: {connection_hint(found[2])}"
    if type(error) is not RuntimeError:
        return None
    text = str(error)
    return next((hint for end, hint in _TEXTS.items() if text.endswith(end)), None)
