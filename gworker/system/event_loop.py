"""The types of gevent's event loop and of its watchers, for annotations alone.

The stubs have them, gevent itself has not: when the program runs they are `Any`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gevent._types import _IoWatcher, _Loop, _TimerWatcher, _Watcher

    Loop = _Loop
    Watcher = _Watcher
    Timer = _TimerWatcher
    IoWatcher = _IoWatcher
else:
    Loop = Watcher = Timer = IoWatcher = Any
