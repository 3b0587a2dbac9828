"""The main job over real processes and sockets."""

from __future__ import annotations

from collections.abc import Callable

import places
from instance import Instance

APP = places.app("echo")


def test_serves(instance: Callable[..., Instance]) -> None:
    one = instance(APP)
    assert one.ask("tcp", b"abc") == b"abc"
    assert one.ask("text", b"abc\n") == b"ABC\n"
