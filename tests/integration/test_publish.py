"""`gworker publish`, and what `gworker status` says of messages."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from instance import DEADLINE, Instance, wait_for
from places import app
from serving import Lines

ROOMS = app("rooms")


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    one = Instance(tmp_path_factory.mktemp("rooms") / "instance", ROOMS)
    try:
        one.start("-w", "2")
        yield one
    finally:
        one.kill()


Join = Callable[[Instance, str], Lines]


@pytest.fixture
def member() -> Iterator[Join]:
    """`member(instance, group)` connects one; all are closed in the end."""
    with ExitStack() as made:

        def one(instance: Instance, group: str) -> Lines:
            client = Lines(made.enter_context(instance.connect("rooms")))
            assert client.ask(group) == f"in {group}"
            return client

        yield one


def publish(
    instance: Instance, *arguments: str, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*instance.command("publish"), *arguments],
        cwd=instance.directory, input=stdin, capture_output=True, timeout=DEADLINE, check=False,
    )  # fmt: skip


def said(done: subprocess.CompletedProcess[bytes]) -> tuple[int, str, str]:
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_a_text_reaches_the_members_of_a_group(rooms: Instance, member: Join) -> None:
    client = member(rooms, "hall")
    assert said(publish(rooms, "hall", "The kitchen is closed")) == (
        0,
        "processes that have it: 1\n",
        "",
    )
    assert client.read() == "The kitchen is closed"
    assert said(publish(rooms, "elsewhere", "x")) == (0, "processes that have it: 0\n", "")


def test_what_is_kept_has_a_position(rooms: Instance, member: Join) -> None:
    client = member(rooms, "kept:1")
    code, out, _ = said(publish(rooms, "kept:1", "-", stdin="grüße\n".encode()))
    assert (code, client.read()) == (0, "grüße")
    assert re.fullmatch(r"processes that have it: 1, position \S+\n", out)
    code, out, _ = said(publish(rooms, "kept:1", "--", "--x"))
    assert (code, client.read()) == (0, "--x")


def test_what_cannot_be_published_is_refused(rooms: Instance) -> None:
    assert said(publish(rooms, "x" * 201, "y")) == (
        1,
        "",
        "gworker: error: a group has 1 to 200 bytes of UTF-8, not 201\n",
    )
    code, _, error = said(publish(rooms, "hall", "-", stdin=b"\xff"))
    assert (code, error.partition(":")[0]) == (1, "gworker")
    assert "what stdin has is no UTF-8" in error
    assert publish(rooms, "hall").returncode == 2


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--broker", "redis://:secret@h"], "broker redis://***@h: a --cluster-name is missing"),
        (["--broker", "redis://:secret@127.0.0.1:1", "--cluster-name", "shop"], "refused"),
    ],
)
def test_a_redis_that_is_given_is_taken(rooms: Instance, options: list[str], error: str) -> None:
    code, _, told = said(publish(rooms, "hall", "x", *options))
    assert code == 1
    assert error in told
    assert "secret" not in told


def test_it_needs_an_instance(tmp_path: Path) -> None:
    one = Instance(tmp_path / "none", "")
    assert said(publish(one, "hall", "x")) == (3, "", "gworker: no instance is running\n")
    assert said(publish(one, "hall", "x", "--name", "shop"))[::2] == (
        3,
        "gworker: shop is not running\n",
    )


def test_status_shows_what_processes_do(instance: Callable[..., Instance], member: Join) -> None:
    one = instance(ROOMS, "-w", "2")
    before = one.status()["totals"]["messages"]
    assert before["state"] == "up"
    clients = [member(one, "hall") for _ in range(4)]
    for number in range(3):
        clients[0].socket.sendall(f"{number}\n".encode())
    for client in clients:
        assert [client.read() for _ in range(3)] == ["0", "1", "2"]

    def figures() -> tuple[int, ...]:
        found = one.status()["totals"]["messages"]
        return tuple(found[name] for name in ("published", "delivered", "dropped", "gaps"))

    wait_for(lambda: figures() == (3, 12, 0, 0), "all are counted")
    found = one.status()["totals"]["messages"]
    assert found["groups"] == sum(row["connections"] > 0 for row in one.workers())
    assert found["subscriptions"] > found["groups"]
    assert 0 < found["latency_ms"] < 2000
    shown = one.run("status").stdout
    assert re.search(r"^broker local  ready  pid \d+", shown, re.MULTILINE)
    assert "messages between processes" in shown
    for row in one.workers():
        assert row["messages"]["state"] == "up"
