"""What is no handler is refused as the target is loaded, not when the first request comes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import places
import pytest
from instance import Instance

pytestmark = pytest.mark.timeout(180)

APPS = places.APPS
MakeInstance = Callable[..., Instance]


@pytest.mark.parametrize(
    ("app", "attribute", "why"),
    [
        (
            "applications",
            "asgi",
            "app:asgi is an ASGI application (scope, receive, send): gworker serves WSGI",
        ),
        (
            "wrong_arguments",
            "Handler",
            "is Handler.on_message(connection); expected (connection, data)",
        ),
    ],
)
def test_start_and_check_exit_with_the_reason(
    tmp_path: Path, app: str, attribute: str, why: str
) -> None:
    one = Instance(tmp_path / "instance", (APPS / f"{app}.py").read_text())
    try:
        for command in ("check", "start"):
            done = one.run(command, f"app:{attribute}")
            assert (done.returncode, done.stdout) == (1, "")
            assert why in done.stderr
    finally:
        one.kill()


def test_a_reload_refuses_them_and_changes_nothing(instance: MakeInstance) -> None:
    good = """
    from gworker import Worker
    text = Worker("text://127.0.0.1:0")

    @text.on_message
    def answer(connection, line):
        connection.send(line)
    """
    one = instance(good)
    one.write(good.replace("(connection, line)", "(line)"))
    answer = one.reload()
    assert answer["exit"] == 1
    assert "is answer(line); expected (connection, data)" in answer["error"]
    assert one.ask("text", b"hello\n") == b"hello\n"


def test_a_callback_of_one_connection_is_refused_where_it_is_set(instance: MakeInstance) -> None:
    one = instance(
        """
    from gworker import Worker
    text = Worker("text://127.0.0.1:0")

    @text.on_message
    def answer(connection, line):
        connection.on_close = lambda: None
    """
    )
    assert one.ask("text", b"hello\n") == b"", "closed, as for every exception"
    one.wait_log("is <lambda>(); expected (connection)")
