"""The examples of messages, with their members in several processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import places
import pytest
from example import ANY, Example, Start, fetch, reserved_port, starting
from instance import DEADLINE, wait_for
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

pytestmark = pytest.mark.timeout(180)

PROCESSES = 4


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(target, *options, **environment)` starts an example; all are stopped in the end."""
    with starting(tmp_path) as one:
        yield one


def heard(client: ClientConnection, key: str) -> dict[str, Any]:
    """The next message that has this key."""
    while key not in (message := json.loads(client.recv(DEADLINE))):
        continue
    return dict(message)


@contextmanager
def connected(urls: Sequence[str]) -> Iterator[list[ClientConnection]]:
    with ExitStack() as stack:
        yield [stack.enter_context(connect(url)) for url in urls]


def holders(example: Example, worker: str) -> int:
    """How many processes of a Worker have connections."""
    return sum(row["connections"] > 0 for row in example.workers(worker))


def test_notifications(start: Start) -> None:
    example = start(
        "messages/notifications.py", "-w", str(PROCESSES),
        DEVICES=f"ws://{ANY}", WEB=f"http://{ANY}",
    )  # fmt: skip
    web, devices = example.port("http"), f"ws://127.0.0.1:{example.port('ws')}/"

    def ask(method: str, body: str | None = None) -> Any:
        return json.loads(fetch(web, method, "/notify/ada", body)[2])

    assert ask("GET") == {"online": False, "devices": 0}
    assert ask("POST", "nobody is there") == {"processes": 0}
    with pytest.raises(InvalidStatus, match="403"):
        connect(devices)
    with connected([f"{devices}?user=ada"] * 8) as ada, connect(f"{devices}?user=bob") as bob:
        assert ask("GET") == {"online": True, "devices": 8}
        reached = ask("POST", "Your parcel is here")["processes"]
        assert 2 <= reached <= PROCESSES
        assert [each.recv(DEADLINE) for each in ada] == ["Your parcel is here"] * 8
        assert ask("DELETE") == {"logged_out": "ada"}
        for each in ada:
            with pytest.raises(ConnectionClosed) as caught:
                each.recv(DEADLINE)
            assert caught.value.rcvd is not None
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4003, "logged out")
        wait_for(lambda: not ask("GET")["online"], "nobody online")
        fetch(web, "POST", "/notify/bob", "only you")
        assert bob.recv(DEADLINE) == "only you"


def test_presence(start: Start) -> None:
    example = start("messages/presence.py", "-w", str(PROCESSES), LISTEN=f"ws://{ANY}")
    url = f"ws://127.0.0.1:{example.port('ws')}/lobby?name="
    names = [f"p{number:02}" for number in range(24)]

    def read_until(client: ClientConnection, kind: str, name: str) -> list[str]:
        """All that have left up to then."""
        left: list[str] = []
        while True:
            news = heard(client, "left")
            left += news["left"]
            if name in news[kind]:
                return left

    with connected([url + name for name in names]) as people:
        for number, each in enumerate(people):
            each.send("hello")
            here = heard(each, "here")
            assert (sorted(here["here"]), here["count"]) == (names[: number + 1], number + 1)
        assert holders(example, "people") == PROCESSES
        for each in people:
            assert read_until(each, "joined", names[-1]) == []
        people[0].close()
        with connect(url + names[0]) as again:  # within three seconds
            again.send("hello")
            assert sorted(heard(again, "here")["here"]) == names
            began = time.monotonic()
            people[1].close()
            for each in (*people[2:], again):
                assert read_until(each, "left", names[1]) == [names[1]]
            assert time.monotonic() - began > 2
            again.send("hello")
            assert sorted(heard(again, "here")["here"]) == [names[0], *names[2:]]


def test_prices(start: Start) -> None:
    example = start("messages/prices.py", "-w", "2", LISTEN=f"ws://{ANY}", PERIOD="0.05")
    url = f"ws://127.0.0.1:{example.port('ws')}/"
    symbols = {"BTC", "ETH", "GOLD", "OIL"}
    with connect(url) as first, connect(url) as second:
        first.send("go")
        seen: dict[str, float] = {}
        while seen.keys() != symbols:
            message = heard(first, "symbol")
            seen[message["symbol"]] = message["price"]
        second.send("go")
        assert {heard(second, "symbol")["symbol"] for _ in symbols} == symbols
        second.send("stop")
        with pytest.raises(TimeoutError):
            while True:
                second.recv(0.5)
        assert heard(first, "symbol")


def test_recoverable_room(start: Start) -> None:
    with reserved_port() as page, reserved_port() as room:
        url = f"ws://127.0.0.1:{room}"
        example = start(
            "messages/recoverable_room.py", "-w", "2",
            ROOM_HTTP=f"http://127.0.0.1:{page}", ROOM_WS=url,
        )  # fmt: skip
        assert f'new WebSocket("{url}")' in fetch(page, "GET", "/")[2]

        def enter(client: ClientConnection, since: str | None) -> dict[str, Any]:
            client.send(json.dumps({"since": since}))
            return heard(client, "missed")

        def say(client: ClientConnection, *texts: str) -> None:
            for text in texts:
                client.send(json.dumps({"say": text}))

        with connect(url) as ann:
            enter(ann, None)
            with connect(url) as bob:
                enter(bob, None)
                say(ann, "one")
                last = heard(bob, "text")
            assert last["text"] == "one"
            say(ann, "two", "three")
            positions = [heard(ann, "text")["at"] for _ in range(3)]
            assert positions[0] == last["at"]
            assert example.reload() == {"exit": 0}
            with connect(url) as bob:
                bob.send(json.dumps({"since": last["at"]}))
                missed = [heard(bob, "text") for _ in range(2)]
                assert missed == [
                    {"text": "two", "at": positions[1]},
                    {"text": "three", "at": positions[2]},
                ]
                answer = heard(bob, "missed")
                assert answer == {"recovered": True, "missed": 2, "at": positions[2]}
                say(ann, "four")
                assert heard(bob, "text")["text"] == "four"
            with connect(url) as cy:
                assert not enter(cy, "no position")["recovered"]


@contextmanager
def flask(directory: Path, environment: dict[str, str]) -> Iterator[int]:
    """The port of the Flask site."""
    log = directory / "flask.log"
    app = f"{places.EXAMPLES}/messages/publish_from_flask.py"
    with log.open("w") as output:
        site = subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", app, "run", "--port", "0"],
            env=environment, stdout=output, stderr=output, cwd=directory,
        )  # fmt: skip
    try:
        found = wait_for(
            lambda: re.search(r"Running on http://127\.0\.0\.1:(\d+)", log.read_text()), "a site"
        )
        yield int(found[1])
    finally:
        site.terminate()
        site.wait(DEADLINE)


def test_publish_from_flask(tmp_path: Path) -> None:
    """messages/publish_from_flask.py finds the instance by its name, as a user with the same
    temporary directory does."""
    example = Example(tmp_path / "notifications", "")
    example.runtime = tmp_path / f"gworker-{os.geteuid()}"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "CLUSTER": "flask-test"}
    try:
        example.start_example(
            "messages/notifications.py", "--name", "flask-test",
            DEVICES=f"ws://{ANY}", WEB=f"http://{ANY}",
        )  # fmt: skip
        with (
            connect(f"ws://127.0.0.1:{example.port('ws')}/?user=ada") as ada,
            flask(tmp_path, environment) as site,
        ):
            for user, told in (("ada", True), ("bob", False)):
                answer = fetch(site, "POST", f"/shipped/{user}")
                assert (answer[0], json.loads(answer[2])) == (200, {"told": told})
            assert ada.recv(DEADLINE) == "Your order has shipped"
            script = str(places.EXAMPLES / "messages" / "publish_from_flask.py")
            done = subprocess.run(
                [sys.executable, script, "ada"],
                env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False,
            )  # fmt: skip
            assert (done.stdout, done.stderr) == ("processes that have the message: 1\n", "")
            assert ada.recv(DEADLINE) == "Your order has shipped"
    finally:
        example.kill()
