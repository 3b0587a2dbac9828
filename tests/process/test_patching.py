"""Monkey-patching without reading the metadata of every distribution."""

from __future__ import annotations

from gworker.process.patching import PATCH_EVENTS, gevent_plugins


def test_the_plugins_of_each_event_are_looked_for_once() -> None:
    found = gevent_plugins()
    assert set(found) == {f"gevent.plugins.monkey.{event}" for event in PATCH_EVENTS}
    assert gevent_plugins() is found
