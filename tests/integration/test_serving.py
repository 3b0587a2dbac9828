"""The main job over real processes and sockets."""

from __future__ import annotations

from collections.abc import Callable

from instance import Instance

APP = """
    from gworker import Worker

    tcp = Worker("tcp://127.0.0.1:0")
    text = Worker("text://127.0.0.1:0")

    @tcp.on_message
    def echo(connection, data):
        connection.send(data)

    @text.on_message
    def shout(connection, line):
        connection.send(line.upper())
"""


def test_serves(instance: Callable[..., Instance]) -> None:
    one = instance(APP)
    assert one.ask("tcp", b"abc") == b"abc"
    assert one.ask("text", b"abc\n") == b"ABC\n"
