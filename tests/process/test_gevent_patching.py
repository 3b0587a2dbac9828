"""The plugins of gevent, which the arbiter looks up once for its children.

How a child is patched: integration/test_booting.py.
"""

from __future__ import annotations

from gworker.process.gevent_patching import PATCH_EVENTS, gevent_plugins


def test_the_plugins_of_each_event_are_looked_for_once() -> None:
    found = gevent_plugins()
    assert set(found) == {f"gevent.plugins.monkey.{event}" for event in PATCH_EVENTS}
    assert gevent_plugins() is found
