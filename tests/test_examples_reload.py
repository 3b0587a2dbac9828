"""Which of the examples' connections live through a reload, and what the reload says of the
others."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import places
import pytest
from instance import DEADLINE, Instance
from pki import Pki
from websockets.sync.client import ClientConnection, connect

APP = places.APPS / "all_examples.py"
EXAMPLES = APP.parent.parent.parent / "examples"

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + KEY + b"\r\n"
)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HELLO = b"\xa5\x5a\0\6\1pump1\xf4"

ASKS = {
    "broadcast": b"",
    "chat.room": UPGRADE,
    "chat.web": GET,
    "clock": GET,
    "device_gateway": HELLO,
    "echo": b"x",
    "files": GET,
    "heartbeat": b"ping\n",
    "http_api": GET,
    "json_lines": b'{"id": 1, "add": [1]}\n',
    "legacy_socketserver": b"x\n",
    "one_port": UPGRADE,
    "proxy": b"x",
    "session": b"Ann\n",
    "start.lines": b"x\n",
    "start.web": GET,
    "text_shout": b"x\n",
    "tls_echo": b"x\n",
    "unix_echo": b"x",
    "upload": GET,
    "websocket_echo": UPGRADE,
}
"""What makes each of them answer."""

STAY = {
    "on_connect without on_takeover": {"proxy", "tls_echo"},
    "a socketserver handler": {"files", "legacy_socketserver"},
    "a connection handler": {"session"},
}
"""Those whose connections do not move, by the reason."""

FRAME = b"\x81\x85\0\0\0\0hello"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    directory = tmp_path_factory.mktemp("examples")
    Pki(directory).issue("site", "127.0.0.1")
    one = Instance(directory / "instance", "")
    try:
        one.start("--env", f"TLS={directory}", target=str(APP))
        yield one
    finally:
        one.kill()


class Peer:
    """One connection to one example."""

    def __init__(self, name: str, listen: str, stack: ExitStack) -> None:
        self.name = name
        address = listen.partition("://")[2]
        family = socket.AF_UNIX if address.startswith("/") else socket.AF_INET
        plain = socket.socket(family)
        plain.settimeout(DEADLINE)
        plain.connect(
            address if family == socket.AF_UNIX else ("127.0.0.1", int(address.rpartition(":")[2]))
        )
        self.socket: socket.socket = plain
        if name == "tls_echo":
            context = ssl._create_unverified_context()
            self.socket = context.wrap_socket(plain)
        stack.enter_context(self.socket)

    def ask(self, data: bytes) -> bytes:
        """Send `data`; what comes next."""
        self.socket.sendall(data)
        return self.socket.recv(65536)


def test_a_reload_moves_the_connections_of_the_examples(examples: Instance) -> None:
    with ExitStack() as stack:
        peers = [Peer(row["worker"], row["listen"], stack) for row in examples.workers()]
        assert {peer.name for peer in peers} == set(ASKS)
        for peer in peers:
            assert peer.ask(ASKS[peer.name]), peer.name
        steps = [reply.get("step", "") for reply in examples.ask_arbiter("reload")]
        told = dict(
            re.fullmatch(r"\d+ connections? cannot move: (.*) \((.*)\)", step).groups()
            for step in steps
            if " cannot move: " in step
        )
        assert {reason: set(names.split(", ")) for reason, names in told.items()} == STAY
        serving = {
            row["pid"]: row["worker"] for row in examples.workers() if row["state"] == "ready"
        }
        rows = json.loads(examples.run("connections", "--json").stdout)
        moved = {serving[row["pid"]] for row in rows if row["pid"] in serving}
        assert moved == set(ASKS).difference(*STAY.values())
        for peer in peers:
            if peer.name in moved:
                answer = peer.ask(FRAME if ASKS[peer.name] == UPGRADE else ASKS[peer.name])
                assert answer, peer.name
                assert answer[:1] != b"\x88", peer.name


def talk(client: ClientConnection, **message: str) -> None:
    client.send(json.dumps(message))


def heard(client: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of this type."""
    while (message := json.loads(client.recv(DEADLINE)))["type"] != kind:
        continue
    return dict(message)


def test_the_demo_disconnects_no_client_and_forgets_nothing(tmp_path: Path) -> None:
    """As `make demo` starts it, but for its ports; in use while it is reloaded again and again."""
    ports = ("--env", "CHAT_HTTP=http://127.0.0.1:0", "--env", "CHAT_WS=ws://127.0.0.1:0")
    one = Instance(tmp_path / "demo", "")
    try:
        one.start(*ports, target=str(EXAMPLES / "chat.py"))
        url = f"ws://127.0.0.1:{one.port('room')}/"
        with connect(url) as ann, connect(url) as bob:
            for client, name in ((ann, "Ann"), (bob, "Bob")):
                talk(client, type="join", name=name)
                assert heard(client, "welcome")["name"] == name
            for number in range(3):
                talk(ann, type="say", text=f"before {number}")
                *_, end = one.ask_arbiter("reload")
                assert end["exit"] == 0
                reload = one.status()["last_reload"]
                assert (reload["handed_over"], reload["closed"]) == (2, 0)
                talk(bob, type="say", text=f"after {number}")
                for client in (ann, bob):
                    assert [heard(client, "said")["text"] for _ in range(2)] == [
                        f"before {number}",
                        f"after {number}",
                    ]
            with connect(url) as cy:
                talk(cy, type="join", name="bob")
                said = [message["text"] for message in heard(cy, "welcome")["history"]]
                assert said == [
                    f"{when} {number}" for number in range(3) for when in ("before", "after")
                ]
                assert heard(ann, "joined")["people"] == ["Ann", "Bob", "bob 2"]
            assert heard(ann, "left")["people"] == ["Ann", "Bob"]
    finally:
        one.kill()


def test_the_ten_lines_of_the_readme_move_as_they_stand(tmp_path: Path) -> None:
    (program,) = re.findall(
        r"```python\n(# chat.py\n.*?)```", (EXAMPLES.parent / "README.md").read_text(), re.DOTALL
    )
    assert '"websocket://127.0.0.1:9501"' in program
    one = Instance(tmp_path / "readme", program.replace("9501", "0"))
    try:
        one.start()
        url = f"ws://127.0.0.1:{one.port('chat')}/"
        with connect(url) as first, connect(url) as second:
            for _ in range(2):
                assert one.reload() == {"exit": 0}
                first.send("hello")
                assert [first.recv(DEADLINE), second.recv(DEADLINE)] == ["hello"] * 2
    finally:
        one.kill()


def test_the_readme_says_which_stay() -> None:
    text = (EXAMPLES / "README.md").read_text().partition("At a reload")[2]
    for reason, names in STAY.items():
        for name in names:
            assert re.search(rf"`{name}.py`.*{re.escape(reason.removeprefix('a '))}", text), (
                name,
                reason,
            )
