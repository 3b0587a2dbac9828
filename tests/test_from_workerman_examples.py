"""The ports of the Workerman manual's examples, each started as its docstring says and used by a
client."""

from __future__ import annotations

import json
import os
import re
import select
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import places
import pymysql
import pytest
import servers
from instance import DEADLINE, Instance, wait_for
from pki import Pki
from serving import Lines
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

EXAMPLES = places.EXAMPLES
ANY = "127.0.0.1:0"

Start = Callable[..., Instance]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(file, *options, **environment)` starts an example; all are stopped in the end."""
    with ExitStack() as made:

        def one(name: str, *options: str, **environment: str) -> Instance:
            example = Instance(tmp_path / str(len(list(tmp_path.iterdir()))), "")
            made.callback(example.kill)
            variables = [word for pair in environment.items() for word in ("--env", "=".join(pair))]
            example.start(*options, *variables, target=str(EXAMPLES / name))
            return example

        yield one


def port_of(example: Instance) -> int:
    """The port of the only Worker."""
    return int(example.workers()[0]["listen"].rpartition(":")[2])


def dial(example: Instance) -> socket.socket:
    """A TCP connection to the only Worker."""
    return socket.create_connection(("127.0.0.1", port_of(example)), timeout=DEADLINE)


def get(port: int, target: str = "/") -> str:
    """The body of one answer over HTTP, on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")[2].decode()


def test_start(tmp_path: Path) -> None:
    """Script style: the static settings hold, and every command follows the script's name."""
    script = str(EXAMPLES / "from_workerman/start.py")
    files = {name: str(tmp_path / name.lower()) for name in ("PID_FILE", "LOG_FILE", "STDOUT_FILE")}
    environment = os.environ | files | {"HTTP": f"http://{ANY}", "TEXT": f"text://{ANY}"}

    def run(*words: str) -> str:
        command = [sys.executable, script, *words, "--runtime-dir", str(tmp_path / "run")]
        done = subprocess.run(
            command, env=environment, text=True, capture_output=True, timeout=DEADLINE, check=False
        )
        assert done.returncode == 0, done
        return done.stdout

    run("start", "-d")
    try:
        rows = {row["worker"]: row for row in json.loads(run("status", "--json"))["workers"]}
        assert get(int(rows["MyWebWorker"]["listen"].rpartition(":")[2]), "/page").startswith(
            "hello from process"
        )
        run("reload")
        after = {row["worker"]: row for row in json.loads(run("status", "--json"))["workers"]}
        assert after["MyTextWorker"]["pid"] == rows["MyTextWorker"]["pid"]
        assert after["MyWebWorker"]["pid"] != rows["MyWebWorker"]["pid"]
        assert Path(files["STDOUT_FILE"]).read_text() == "GET /page\n"
    finally:
        run("stop")
    assert "stopped" in Path(files["LOG_FILE"]).read_text()


def test_simple_http(start: Start) -> None:
    example = start("from_workerman/simple_http.py", LISTEN=f"http://{ANY}")
    assert get(port_of(example)) == "hello world"
    assert get(port_of(example), "/?name=tom") == "hello tom"
    assert len(example.workers()) == 4


def test_simple_websocket(start: Start) -> None:
    example = start("from_workerman/simple_websocket.py", LISTEN=f"websocket://{ANY}")
    url = f"ws://127.0.0.1:{port_of(example)}/"
    with connect(url, origin="http://127.0.0.1") as client:  # type: ignore[arg-type]
        client.send("tom")
        assert client.recv(DEADLINE) == "hello tom"
    with pytest.raises(InvalidStatus, match="403"):
        connect(url, origin="http://elsewhere.example")  # type: ignore[arg-type]


def test_simple_tcp(start: Start) -> None:
    with dial(start("from_workerman/simple_tcp.py", LISTEN=f"tcp://{ANY}")) as client:
        client.sendall(b"tom")
        assert client.recv(100) == b"hello tom"


def test_simple_udp(start: Start) -> None:
    port = port_of(start("from_workerman/simple_udp.py", LISTEN=f"udp://{ANY}"))
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(DEADLINE)
        client.sendto(b"tom", ("127.0.0.1", port))
        assert client.recv(100) == b"get: tom"


def test_unix_socket(start: Start, tmp_path: Path) -> None:
    start("from_workerman/unix_socket.py", LISTEN=f"unix://{tmp_path / 's'}")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE)
        client.connect(str(tmp_path / "s"))
        assert Lines(client).ask("tom") == "hello tom"


def test_callbacks(start: Start, tmp_path: Path) -> None:
    output = tmp_path / "output"
    example = start(
        "from_workerman/callbacks.py", "--stdout-file", str(output), LISTEN=f"text://{ANY}"
    )
    with dial(example) as client:
        lines = Lines(client)
        assert [lines.ask("quit"), lines.read(), lines.read()] == ["receive success", "bye", ""]
    assert example.reload() == {"exit": 0}
    assert example.run("stop").returncode == 0
    assert re.fullmatch(
        r"worker 0 starting\nnew connection (\d+) from 127.0.0.1\nconnection \1 closed\n"
        r"worker 0 starting\nworker 0 reload\nworker 0 stopping\nworker 0 stopping\n",
        output.read_text(),
    )


def test_heartbeat(start: Start) -> None:
    """Many are silent: the loop of the manual closes them while it iterates."""
    example = start("from_workerman/heartbeat.py", LISTEN=f"text://{ANY}", HEARTBEAT_TIME="2.5")
    with ExitStack() as stack:
        silent = [stack.enter_context(dial(example)) for _ in range(50)]
        alive = Lines(stack.enter_context(dial(example)))
        left = set(silent)
        while left:
            assert alive.ask("ping") == "received ping"
            ended = select.select(list(left), [], [], 0.2)[0]
            assert all(client.recv(1) == b"" for client in ended)
            left -= set(ended)
        assert alive.ask("ping") == "received ping"
    assert example.workers()[0]["exceptions"] == 0


def test_timers(start: Start, tmp_path: Path) -> None:
    output = tmp_path / "output"
    example = start(
        "from_workerman/timers.py", "--stdout-file", str(output),
        LISTEN=f"text://{ANY}", PERIOD="0.1",
    )  # fmt: skip
    with dial(example) as client:
        first, second = float(Lines(client).read()), float(Lines(client).read())
        assert second > first
    wait_for(lambda: "tick 3" in output.read_text(), "three ticks")
    assert output.read_text().count("send mail to workerman@example.org: hello\n") == 1
    wait_for(
        lambda: all(row["timers"] == 0 for row in example.workers()),
        "the timers of connection and task end",
    )
    assert "tick 4" not in output.read_text()


def test_broadcast(start: Start) -> None:
    example = start("from_workerman/broadcast.py", LISTEN=f"text://{ANY}", PERIOD="0.1")
    with dial(example) as one, dial(example) as other:
        times = [float(Lines(client).read()) for client in (one, other)]
        assert all(abs(time.time() - each) < DEADLINE for each in times)


def test_push_to_user(start: Start) -> None:
    port = servers.free_port()
    example = start(
        "from_workerman/push_to_user.py", LISTEN=f"websocket://{ANY}", INNER=f"text://127.0.0.1:{port}"
    )  # fmt: skip

    def push(line: str) -> str:
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as program:
            return Lines(program).ask(line)

    url = f"ws://127.0.0.1:{port_of(example)}/"
    with connect(url) as five, connect(url) as six:
        for uid, client in (("5", five), ("6", six)):
            client.send(uid)
            assert client.recv(DEADLINE) == f"you are {uid}"
        for _ in range(2):
            assert [push("5|to five"), push("7|to nobody"), push("|to all")] == ["ok", "fail", "ok"]
            assert [five.recv(DEADLINE), five.recv(DEADLINE), six.recv(DEADLINE)] == [
                "to five",
                "to all",
                "to all",
            ]
            assert example.reload() == {"exit": 0}
            wait_for(lambda: len(example.workers()) == 1, "the old process has left")


def test_send_file(start: Start, tmp_path: Path) -> None:
    content = bytes(range(256)) * 20_000
    (tmp_path / "file").write_bytes(content)
    example = start(
        "from_workerman/send_file.py", LISTEN=f"text://{ANY}", FILE=str(tmp_path / "file")
    )
    with dial(example) as client:
        client.sendall(b"go\n")
        assert b"".join(iter(lambda: client.recv(65536), b"")) == content


def test_async_tcp_connection(start: Start) -> None:
    upstream = start("from_workerman/simple_tcp.py", LISTEN=f"tcp://{ANY}")
    example = start(
        "from_workerman/async_tcp_connection.py",
        LISTEN=f"tcp://{ANY}", UPSTREAM=f"tcp://127.0.0.1:{port_of(upstream)}",
    )  # fmt: skip
    with dial(example) as client:
        client.sendall(b"tom")
        assert client.recv(100) == b"hello tom"
    wait_for(
        lambda: sum(row["connections"] for row in upstream.workers()) == 0,
        "the other side is closed, too",
    )


def test_json_int(start: Start) -> None:
    with dial(start("from_workerman/json_int.py", LISTEN=f"jsonint://{ANY}")) as client:
        body = json.dumps({"type": "hello"}).encode()
        client.sendall(struct.pack(">I", len(body) + 4) + body)
        with client.makefile("rb") as file:
            answer = file.read(struct.unpack(">I", file.read(4))[0] - 4)
    assert json.loads(answer) == {"received": {"type": "hello"}}


def test_ssl_websocket(start: Start, tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    cert, key = pki.issue("localhost", "localhost")
    example = start(
        "from_workerman/ssl_websocket.py", LISTEN=f"websocket://{ANY}", CERT=cert, KEY=key
    )
    context = ssl.create_default_context(cafile=pki.ca)
    with connect(f"wss://localhost:{port_of(example)}/", ssl=context) as client:
        client.send("hi")
        assert client.recv(DEADLINE) == "ok hi"


def test_stop_all(start: Start) -> None:
    example = start("from_workerman/stop_all.py", LISTEN=f"http://{ANY}", MAX_REQUEST="5")
    port = port_of(example)
    first = get(port)
    assert all(get(port) == first for _ in range(4))
    wait_for(lambda: get(port) != first, "a successor answers")


def test_database(start: Start, tmp_path: Path) -> None:
    with servers.start_mariadb(tmp_path) as port:
        with pymysql.connect(host="127.0.0.1", port=port, user="root", database="shop") as database:
            database.cursor().execute("CREATE TABLE items (name VARCHAR(40))")
        example = start(
            "from_workerman/database.py", LISTEN=f"websocket://{ANY}", MYSQL_PORT=str(port)
        )
        with connect(f"ws://127.0.0.1:{port_of(example)}/") as client:
            client.send("?")
            assert client.recv(DEADLINE) == "items"
