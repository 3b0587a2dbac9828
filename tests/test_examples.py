"""Every example is started as its docstring says, and used by a real client."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import places
import psutil
import pytest
from example import ANY, Example, Start, fetch, reserved_port, starting
from instance import DEADLINE, wait_for
from pki import Pki
from serving import Lines
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

EXAMPLES = places.EXAMPLES

pytestmark = pytest.mark.timeout(
    180
)  # each step has a deadline of its own; a busy machine may need most of several


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(target, *options, **environment)` starts an example; all are stopped in the end."""
    with starting(tmp_path) as one:
        yield one


# ---- all of them


def files() -> list[Path]:
    """The examples that are one file each; a project of Django has its own README."""
    projects = [path.parent for path in EXAMPLES.rglob("manage.py")]
    found = sorted(EXAMPLES.rglob("*.py"))
    return [path for path in found if not any(each in path.parents for each in projects)]


LARGE = ("chat.py", "device_gateway.py")


def starting_tests() -> str:
    """The text of the test files that start examples."""
    return "".join(
        path.read_text() for path in sorted(Path(__file__).parent.glob("test_*examples.py"))
    )


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_is_documented_and_tested(path: Path) -> None:
    text, name = path.read_text(), str(path.relative_to(EXAMPLES))
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert f" examples/{name}" in docstring, "no command in its docstring"
    table = (
        path.parent / "README.md"
        if (path.parent / "README.md").exists()
        else EXAMPLES / "README.md"
    )
    assert f"]({path.relative_to(table.parent)})" in table.read_text(), (
        "not in the table of README.md"
    )
    assert re.search(rf'[("/ ]{re.escape(name)}\b', starting_tests()), "no test starts it"
    assert path.name in LARGE or text.count("\n") <= 60, "too long for a small example"


def test_the_table_names_only_files_that_exist() -> None:
    for name in re.findall(r"\]\((.+?)\)", (EXAMPLES / "README.md").read_text()):
        assert (EXAMPLES / name).is_file()


# ---- the small ones


@pytest.mark.parametrize(
    ("target", "sent", "answer"),
    [("echo.py:echo", b"a\0b", b"a\0b"), ("legacy_socketserver.py:Upper", b"abc\n", b"ABC\n")],
    ids=["echo", "legacy_socketserver"],
)
def test_answers(start: Start, target: str, sent: bytes, answer: bytes) -> None:
    assert start(target, "--bind", f"tcp://{ANY}").ask("tcp", sent) == answer


def device_package(kind: int, body: bytes) -> bytes:
    payload = bytes([kind]) + body
    return b"\xa5\x5a" + len(payload).to_bytes(2) + payload + bytes([sum(payload) & 0xFF])


def test_device_gateway(start: Start) -> None:
    port = start("device_gateway.py", LISTEN=f"tcp://{ANY}", SILENCE="1").port("tcp")
    hello, welcome = device_package(1, b"pump1"), device_package(1, b"welcome pump1")

    def ask(*parts: bytes) -> bytes:
        """All that is answered to `parts` and the end."""
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as client:
            for part in parts:
                client.sendall(part)
            client.shutdown(socket.SHUT_WR)
            return client.makefile("rb").read()

    reading = device_package(2, b"42")
    assert ask(hello + reading) == welcome + device_package(2, b"got 42")
    assert ask(*(bytes([byte]) for byte in hello)) == welcome
    assert ask(reading) == device_package(4, b"who are you?")
    assert ask(b"GET / HTTP/1.1\r\n\r\n") == b""
    assert ask(hello[:-1] + b"\0" + hello) == device_package(4, b"checksum")
    assert ask(hello, device_package(4, b"pump2\0stop")) == welcome + device_package(2, b"not here")
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as pump:
        pump.sendall(device_package(1, b"pump2"))
        stream = pump.makefile("rb")
        assert stream.read(len(welcome)) == device_package(1, b"welcome pump2")
        assert ask(hello, device_package(4, b"pump2\0stop")) == welcome + device_package(2, b"sent")
        assert stream.read() == device_package(4, b"stop"), (
            "and then it is closed, because it is silent"
        )


def test_json_lines(start: Start) -> None:
    example = start("json_lines.py", LISTEN=f"jsonl://{ANY}")
    with example.lines("jsonl") as client:
        assert json.loads(client.ask('{"id": 1, "add": [1, 2]}')) == {"id": 1, "sum": 3}
        assert json.loads(client.ask('{"id": 2}')) == {"error": "KeyError: 'add'"}
        assert "not JSON" in json.loads(client.ask("{"))["error"]
        assert client.read() == ""


def test_udp_time(start: Start) -> None:
    port = start("udp_time.py", LISTEN=f"udp://{ANY}").port("udp")
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(DEADLINE)
        client.connect(("127.0.0.1", port))
        client.send(b"short")
        client.send(b"\x23" + bytes(39) + b"mytransm")
        answer = client.recv(100)
    assert (len(answer), answer[0], answer[24:32]) == (48, 0x24, b"mytransm")
    assert abs(int.from_bytes(answer[40:44]) - 2208988800 - time.time()) < 10


def test_client(start: Start, tmp_path: Path) -> None:
    output = tmp_path / "output"
    with socket.socket() as server:
        server.settimeout(DEADLINE)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        address = f"text://127.0.0.1:{server.getsockname()[1]}"
        start("client.py", "--stdout-file", str(output), SERVER=address, PERIOD="0.1")
        wait_for(lambda: f"cannot connect to {address}" in output.read_text(), "a failure")
        server.listen()
        for _ in range(2):
            peer, _ = server.accept()
            with peer:
                assert peer.makefile("rb").readline().startswith((b"hello", b"load "))
                peer.sendall(b"thanks\n")
                peer.shutdown(socket.SHUT_WR)
        wait_for(lambda: output.read_text().count("server: thanks") >= 1, "an answer")


def test_proxy(start: Start) -> None:
    """20 MB to a server that does not read for a while: they wait at the client."""
    size, sums, go = 20 << 20, [hashlib.sha256(), hashlib.sha256()], threading.Event()

    def serve(server: socket.socket) -> None:
        peer, _ = server.accept()
        with peer:
            peer.settimeout(DEADLINE)
            go.wait(DEADLINE)
            left = size
            while left:
                data = peer.recv(1 << 18)
                sums[0].update(data)
                left -= len(data)
            peer.sendall(b"all of it")

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE)
        reader = threading.Thread(target=serve, args=(server,))
        reader.start()
        upstream = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        example = start("proxy.py", LISTEN=f"tcp://{ANY}", UPSTREAM=upstream)
        process = psutil.Process(example.workers("proxy")[0]["pid"])
        before = process.memory_info().rss
        with example.connect("tcp") as client:
            sent, data = 0, os.urandom(1 << 16)
            while sent < size:
                if not go.is_set() and not select.select([], [client], [], 0.3)[1]:
                    assert sent < size, "the pipe holds the client back"
                    assert process.memory_info().rss - before < 4 << 20
                    go.set()
                part = client.send(data[: size - sent])
                sums[1].update(data[:part])
                sent += part
            assert go.is_set()
            assert client.makefile("rb").read() == b"all of it"
        reader.join(DEADLINE)
    assert sums[0].digest() == sums[1].digest()
    assert process.memory_info().rss - before < 4 << 20
    with example.connect("tcp") as client:  # to no other client
        client.sendall(b"lost")
        assert client.makefile("rb").read() == b""
    example.wait_log(f"cannot connect to {upstream}: ")


def test_text_shout(start: Start) -> None:
    example = start("text_shout.py", LISTEN=f"text://{ANY}")
    with example.lines("text") as client:
        assert client.read() == "hello 127.0.0.1"
        assert client.ask("grüße\r") == "GRÜSSE"
        assert client.ask("bye") == "BYE"
        assert client.read() == ""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of one http_api.py for the tests of it."""
    example = Example(tmp_path_factory.mktemp("examples") / "api", "")
    try:
        example.start_example("http_api.py", LISTEN=f"http://{ANY}")
        yield example.port("http")
    finally:
        example.kill()


def test_http_api(api: int) -> None:
    status, headers, body = fetch(
        api, "POST", "/tasks", '{"title": "tea"}', Content_Type="application/json"
    )
    assert (status, json.loads(body), headers["Set-Cookie"].split(";")[0]) == (
        201,
        {"1": "tea"},
        "visits=1",
    )
    form = "application/x-www-form-urlencoded"
    status, headers, body = fetch(
        api, "POST", "/tasks", "title=two+cakes", Content_Type=form, Cookie="visits=7"
    )
    assert (status, json.loads(body), headers["Set-Cookie"].split(";")[0]) == (
        201,
        {"2": "two cakes"},
        "visits=8",
    )
    assert json.loads(fetch(api, "GET", "/tasks?search=cake")[2]) == {"2": "two cakes"}
    assert fetch(api, "DELETE", "/tasks?number=1")[0] == 200
    assert json.loads(fetch(api, "GET", "/tasks")[2]) == {"2": "two cakes"}
    assert fetch(api, "HEAD", "/tasks")[::2] == (200, "")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/tasks", "{", 400),
        ("POST", "/tasks", "[]", 400),
        ("POST", "/tasks", "{}", 400),
        ("DELETE", "/tasks?number=x", None, 400),
        ("DELETE", "/tasks", None, 400),
        ("PUT", "/tasks", None, 405),
        ("GET", "/", None, 404),
    ],
)
def test_http_api_refuses(api: int, method: str, path: str, body: str | None, status: int) -> None:
    found, _, answer = fetch(api, method, path, body, Content_Type="application/json")
    assert found == status
    assert json.loads(answer)["error"]


def test_upload(start: Start, tmp_path: Path) -> None:
    port = start("upload.py", LISTEN=f"http://{ANY}", UPLOADS=str(tmp_path / "up")).port("http")
    kind, content = "multipart/form-data; boundary=X", "<b>" * 50000
    part = '--X\r\nContent-Disposition: form-data; name="file"; filename="{}"\r\n\r\n{}\r\n--X--'
    assert fetch(port, "POST", "/", part.format("../a b", content), Content_Type=kind)[0] == 303
    (name,) = (path.name for path in (tmp_path / "up").iterdir())
    assert re.fullmatch("[0-9a-f]{8}-a b", name)
    link = f"/files/{name.replace(' ', '%20')}"
    assert f'<a href="{link}">{name}</a>' in fetch(port, "GET", "/")[2]
    assert fetch(port, "GET", link)[::2] == (200, content)
    assert fetch(port, "POST", "/", "nonsense", Content_Type=kind)[0] == 400
    for dots in ("..", "."):
        assert fetch(port, "POST", "/", part.format(dots, ""), Content_Type=kind)[0] == 400
    assert [path.name for path in (tmp_path / "up").iterdir()] == [name]


def test_clock(start: Start) -> None:
    example = start("clock.py", LISTEN=f"http://{ANY}", PERIOD="0.05")
    assert "EventSource" in fetch(example.port("http"), "GET", "/")[2]
    with example.lines("http") as client:
        client.socket.sendall(b"GET /time HTTP/1.1\r\nHost: a\r\nLast-Event-ID: 7\r\n\r\n")
        seen = [line for line in iter(client.read, "id: 10") if line.startswith(("id:", "data:"))]
        assert seen[::2] == ["id: 8", "id: 9"]
        assert all(re.fullmatch(r"data: \d\d:\d\d:\d\d", line) for line in seen[1::2])


def test_one_port(start: Start) -> None:
    port = start("one_port.py", LISTEN=f"http://{ANY}").port("http")
    assert "WebSocket" in fetch(port, "GET", "/")[2]
    assert fetch(port, "GET", "/none")[0] == 404
    with connect(f"ws://127.0.0.1:{port}/") as one, connect(f"ws://127.0.0.1:{port}/") as other:
        assert [one.recv(DEADLINE), other.recv(DEADLINE)] == ["welcome"] * 2
        one.send("hello")
        mine = one.socket.getsockname()[1]
        assert [one.recv(DEADLINE), other.recv(DEADLINE)] == [f"{mine}: hello"] * 2


def test_websocket_echo(start: Start) -> None:
    port = start("websocket_echo.py", LISTEN=f"websocket://{ANY}").port("websocket")
    with connect(f"ws://127.0.0.1:{port}/") as client:
        assert client.response is not None
        assert client.response.headers["X-Served-By"] == "echo#0"
        client.send("text ✓")
        client.send(b"binary")
        assert [client.recv(DEADLINE), client.recv(DEADLINE)] == ["text ✓", b"binary"]
    with pytest.raises(InvalidStatus, match="404"):
        connect(f"ws://127.0.0.1:{port}/elsewhere")


def test_udp_echo(start: Start) -> None:
    port = start("udp_echo.py", LISTEN=f"udp://{ANY}").port("udp")
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(DEADLINE)
        client.connect(("127.0.0.1", port))
        client.send(b"abc")
        assert client.recv(100) == b"abc"
        client.send(b"time\n")
        assert re.search(rb"\d\d:\d\d:\d\d", client.recv(100))


def test_unix_echo(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "s"
    start("unix_echo.py", LISTEN=f"unix://{path}")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE)
        client.connect(str(path))
        client.sendall(b"abc")
        assert client.recv(100) == b"abc"


def test_heartbeat(start: Start) -> None:
    example = start("heartbeat.py", LISTEN=f"text://{ANY}", SILENCE="1.5")
    with example.lines("text") as silent, example.lines("text") as alive:
        assert alive.ask("ping") == "pong"
        while not select.select([silent.socket], [], [], 0.1)[0]:
            assert alive.ask("data") == "ok"
        assert silent.read() == "too quiet"
        assert silent.read() == ""
        assert alive.ask("ping") == "pong"
        assert alive.read() == "too quiet"


def test_ticker(start: Start, tmp_path: Path) -> None:
    output = tmp_path / "output"
    example = start("ticker.py", "--stdout-file", str(output), PERIOD="0.05")
    wait_for(
        lambda: len(re.findall(r"^\d\d:\d\d:\d\d$", output.read_text(), re.MULTILINE)) >= 3,
        "three ticks",
    )
    assert example.run("stop").returncode == 0
    for number in (0, 1):
        assert output.read_text().count(f"ticker {number} has started") == 1
        assert output.read_text().count(f"ticker {number} has stopped") == 1


def test_session(start: Start) -> None:
    example = start("session.py:guess", "--bind", f"text://{ANY}")
    with example.lines("text") as client:
        assert client.read() == "Hello! What is your name?"
        assert client.ask("Ada") == "I think of a number from 1 to 100, Ada. Which one?"
        assert client.ask("what?") == "A number, please."
        low, high = 1, 100
        while (answer := client.ask(str(guess := (low + high) // 2))) in ("More.", "Less."):
            low, high = (guess + 1, high) if answer == "More." else (low, guess - 1)
        assert answer == "Well done, Ada!"
        assert client.read() == ""


def test_tls_echo(start: Start, tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    certfile, keyfile = pki.issue("site", "localhost")
    example = start("tls_echo.py", LISTEN=f"text://{ANY}", CERT=certfile, KEY=keyfile)
    with pki.client().wrap_socket(example.connect("text"), server_hostname="localhost") as secure:
        client = Lines(secure)
        assert client.read() == f"TLSv1.3, {secure.cipher()[0]}, you have asked for localhost"  # type: ignore[index]
        assert client.ask("hello") == "hello"


def test_files(start: Start) -> None:
    example = start("files.py", LISTEN=f"tcp://{ANY}")
    assert len(example.children()) == 4
    (example.directory / "some.txt").write_text("contents\n")
    port = example.port("tcp")
    assert fetch(port, "GET", "/some.txt")[::2] == (200, "contents\n")
    assert "some.txt" in fetch(port, "GET", "/")[2]
    assert fetch(port, "GET", "/missing")[0] == 404


def test_broadcast(start: Start) -> None:
    example = start(
        "broadcast.py", "--max-send-buffer-size", "16KiB", LISTEN=f"text://{ANY}", PERIOD="0.001"
    )
    port = example.port("text")

    def fell_behind() -> bool:
        """Whether the send buffer of one client is full, while others get theirs."""
        assert all(len(quick.read().split()) == 200 for _ in range(500))
        rows = json.loads(example.run("connections", "--json").stdout)
        return any(row["send_queue"] >= 16384 and row["remote"] != mine for row in rows)

    with socket.socket() as slow, example.lines("text") as quick:
        slow.settimeout(DEADLINE)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so that it is full soon
        slow.connect(("127.0.0.1", port))
        mine = ":".join(map(str, quick.socket.getsockname()))
        wait_for(fell_behind, "a full send buffer")
        reader = Lines(slow)
        said = next(line for line in iter(reader.read, "") if not line[0].isdigit())
        assert re.fullmatch(r"missed [1-9]\d*", said)
        assert len(reader.read().split()) == 200


# ---- script style


def test_start_script(tmp_path: Path) -> None:
    environment = {**os.environ, "WEB": f"http://{ANY}", "LINES": f"text://{ANY}"}
    example = Example(tmp_path / "start", "")

    def script(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            str(EXAMPLES / "start.py"),
            *arguments,
            "--runtime-dir",
            str(example.runtime),
        ]
        return subprocess.run(
            command,
            env=environment,
            text=True,
            capture_output=True,
            timeout=DEADLINE,
            check=False,
            cwd=tmp_path,
        )

    try:
        started = script("start", "-d", "--log-file", str(example.log))
        assert started.returncode == 0, started.stderr
        example.announced = started.stdout
        assert "Hello from process" in fetch(example.port("http"), "GET", "/")[2]
        with example.lines("text") as client:
            assert client.ask("abc") == "cba"
        assert len(re.findall(r"^\W*web\b", script("status").stdout, re.MULTILINE)) == 2
        stopped = script("stop")
        assert stopped.returncode == 0, stopped.stderr
        with pytest.raises(ConnectionRefusedError):
            example.connect("text")
    finally:
        example.kill()


# ---- the chat


class Person:
    """A member of the chat."""

    def __init__(self, client: ClientConnection) -> None:
        self.client = client

    def send(self, **message: Any) -> None:
        """Send one message."""
        self.client.send(json.dumps(message))

    def next(self, *kinds: str, name: str | None = None) -> dict[str, Any]:
        """The next message of one of these types, about `name` if given; others are passed over."""
        while True:
            message: dict[str, Any] = json.loads(self.client.recv(DEADLINE))
            if message["type"] in kinds and name in (None, message.get("name")):
                return message

    def join(self, name: str) -> dict[str, Any]:
        """Join, and return the welcome."""
        self.send(type="join", name=name)
        return self.next("welcome", "error")


class Chat:
    """A chat that runs."""

    def __init__(self, example: Example, page: int, room: int) -> None:
        self.example = example
        self.page = page
        self.room = room

    @contextmanager
    def people(self, count: int) -> Iterator[list[Person]]:
        """So many clients that have not joined yet."""
        with ExitStack() as stack:
            yield [
                Person(stack.enter_context(connect(f"ws://127.0.0.1:{self.room}")))
                for _ in range(count)
            ]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    """One chat for all tests of it: each brings names of its own, and others may still be
    leaving."""
    example = Example(tmp_path_factory.mktemp("examples") / "chat", "")
    with reserved_port() as page, reserved_port() as room:
        try:
            example.start_example(
                "chat.py", CHAT_HTTP=f"http://127.0.0.1:{page}", CHAT_WS=f"ws://127.0.0.1:{room}"
            )
            yield Chat(example, page, room)
        finally:
            example.kill()


def test_chat_page(chat: Chat) -> None:
    status, headers, page = fetch(chat.page, "GET", "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert headers["Cache-Control"] == "no-cache"
    assert f'data-socket="ws://127.0.0.1:{chat.room}"' in page
    assert "{{" not in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page), (
        "the page needs nothing from elsewhere"
    )
    policy = headers["Content-Security-Policy"]
    assert re.search(r"script-src 'sha256-[\w+/]{43}='", policy)
    assert "unsafe" not in policy
    length = headers["Content-Length"]
    status, headers, page = fetch(chat.page, "HEAD", "/")
    assert (status, headers["Content-Length"], page) == (200, length, "")
    assert fetch(chat.page, "GET", "/favicon.ico")[0] == 404
    assert fetch(chat.page, "POST", "/", "")[0] == 405


def test_chat_conversation(chat: Chat) -> None:
    with chat.people(2) as (ada, bob):
        assert ada.join(" Ada\n")["name"] == "Ada"
        assert "Ada" in ada.next("joined", name="Ada")["people"]
        ada.send(type="say", text="anybody here? <b>")
        assert ada.next("said")["text"] == "anybody here? <b>"
        past = bob.join("Bob")["history"][-1]
        assert (past["name"], past["text"]) == ("Ada", "anybody here? <b>")
        assert ada.next("joined", name="Bob")["people"][-2:] == ["Ada", "Bob"]
        bob.send(type="typing")
        assert ada.next("typing")["name"] == "Bob"
        bob.send(type="say", text="  I am\nhere  ")
        said = ada.next("said")
        assert (said["name"], said["text"]) == ("Bob", "I am\nhere")
        assert said["time"] > 1.6e9
        bob.client.close()
        assert "Bob" not in ada.next("left", name="Bob")["people"]


def test_chat_is_one_room_over_all_processes(chat: Chat) -> None:
    with chat.people(16) as people:
        for number, person in enumerate(people):
            assert person.join(f"Person {number}")["type"] == "welcome"
        assert all(row["connections"] for row in chat.example.workers("room"))
        people[0].send(type="say", text="hello everybody")
        for person in people:
            assert person.next("said")["text"] == "hello everybody"


def test_chat_gives_each_name_once(chat: Chat) -> None:
    with chat.people(3) as people:
        names = [
            person.join(name)["name"]
            for person, name in zip(people, ("Eve", "eve", "EVE"), strict=True)
        ]
        assert names == ["Eve", "eve 2", "EVE 3"]
        people[0].client.close()
        assert people[1].next("left", name="Eve")["people"][-2:] == ["eve 2", "EVE 3"]


GARBAGE: list[str | bytes] = [
    "",
    "{",
    "null",
    "[]",
    '"join"',
    "{}",
    b"\xff\xfe\xfd",
    '{"type": "join"}',
    '{"type": "join", "name": 7}',
    '{"type": "join", "name": " \\u200b\\n"}',
    json.dumps({"type": "join", "name": "x" * 25}),
    '{"type": "say", "text": "before joining"}',
    '{"type": ["join"], "name": {}}',
    "[" * 16000,
    "9" * 16000,
]


def test_chat_answers_garbage_with_an_error(chat: Chat) -> None:
    for start_at in range(0, len(GARBAGE), 5):
        with chat.people(1) as (person,):
            for data in GARBAGE[start_at : start_at + 5]:
                person.client.send(data)
                assert person.next("error", "welcome", "said")["type"] == "error", data
            assert person.join("\ud800Zoë 🎉")["name"] == "Zoë 🎉"
            person.send(type="say", text="x" * 1001)
            assert "1000" in person.next("error", "said")["text"]
            person.send(type="say", text="\ud800 x")
            assert person.next("error", "said")["type"] == "said"


def test_chat_slows_down_a_client_that_talks_too_fast(chat: Chat) -> None:
    with chat.people(2) as (fast, other):
        other.join("Other")
        fast.join("Fast")
        for number in range(30):
            fast.send(type="say", text=str(number))
        answers = [fast.next("said", "error") for _ in range(30)]
        assert answers[0]["type"] == "said"
        assert "error" in [answer["type"] for answer in answers]
        other.send(type="say", text="still here")
        assert fast.next("said")["text"] == "still here"


def test_chat_cuts_a_message_that_is_far_too_long(chat: Chat) -> None:
    with chat.people(2) as (reader, writer):
        reader.join("Reader")
        writer.join("Writer")
        writer.send(type="say", text="x" * 20000)
        reader.next("left", name="Writer")
