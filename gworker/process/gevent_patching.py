"""How a child makes blocking calls cooperative: quickly, and without garbage."""

from __future__ import annotations

import gc
from functools import cache
from importlib import metadata
from importlib.metadata import EntryPoint

# What plugins of gevent may be called for (gevent.events).
PATCH_EVENTS = (
    "will_patch_all",
    "will_patch_module",
    "did_patch_module",
    "did_patch_builtins",
    "did_patch_all",
)


@cache
def gevent_plugins() -> dict[str, tuple[EntryPoint, ...]]:
    """The entry points of gevent's plugins, by group.

    gevent asks for them at each of some 25 patching events, and each time the metadata of every
    installed distribution is read: with 50 of them, three quarters of the time to boot. The arbiter
    looks once, and its children inherit what it found.
    """
    found = metadata.entry_points()
    groups = [f"gevent.plugins.monkey.{event}" for event in PATCH_EVENTS]
    return {group: tuple(found.select(group=group)) for group in groups}


def patch_all() -> None:
    # `monkey.patch_all()`, which asks `gevent_plugins` instead of the disk. Imports make much that
    # stays and next to no garbage: looking for it costs a tenth of the time to boot.
    plugins = gevent_plugins()
    original = metadata.entry_points
    gc.disable()
    # Only gevent calls this meanwhile, and it names a group each time: less than the signature
    # allows.
    metadata.entry_points = lambda group: plugins.get(group, ())  # type: ignore[assignment]
    try:
        from gevent import monkey

        monkey.patch_all()
    finally:
        metadata.entry_points = original
        gc.enable()
