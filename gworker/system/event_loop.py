"""The types of gevent's event loop and of its watchers, for annotations alone.

The stubs have them, gevent itself has not: import them where `TYPE_CHECKING` holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gevent._types import _IoWatcher, _Loop, _TimerWatcher, _Watcher

    Loop = _Loop
    Watcher = _Watcher
    Timer = _TimerWatcher
    IoWatcher = _IoWatcher
