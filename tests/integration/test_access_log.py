"""The log and the access log of a real instance, as JSON: which client asked for what, rotation,
repetition, and no reader."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import places
import pytest
from instance import DEADLINE, Instance, wait_for
from serving import Client, Served, serve
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gworker.cli import control_client as control
from gworker.cli import instances

pytestmark = pytest.mark.timeout(120)

APP = places.app("access_log")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    access = tmp_path_factory.mktemp("logs") / "access"
    with serve(tmp_path_factory, APP, "--log-format", "json", "--access-log", str(access)) as one:
        one.access = access  # type: ignore[attr-defined]
        yield one


def json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def lines_of(served: Served, port: int) -> list[dict[str, Any]]:
    """The access log's lines about the client at `port`."""
    access: Path = served.access  # type: ignore[attr-defined]
    return [line for line in json_lines(access) if line["remote"] == f"127.0.0.1:{port}"]


def test_a_format_of_ones_own(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    access = tmp_path / "access"
    form = '{"r": "%(r)s", "s": %(s)s, "b": %(b)s, "type": "%({content-type}o)s", "w": "%(w)s"}'
    options = ("--access-log", str(access), "--access-log-format", form)
    with serve(tmp_path_factory, APP, *options) as one:
        ask(one, "/a", "/interim", '/"\\\xe9')
        with Client(one, "old") as client:
            client.send("hello\n")
            assert client.line() == "hello"
        wait_for(lambda: access.exists() and access.read_text().count("\n") >= 4, "its lines")
        *lines, of_connection = access.read_text().splitlines()
    kind = "text/html; charset=utf-8"
    assert [json.loads(line) for line in lines] == [
        {"r": "GET /a HTTP/1.1", "s": 200, "b": 5, "type": kind, "w": "web#0"},
        {"r": "GET /interim HTTP/1.1", "s": 201, "b": 4, "type": kind, "w": "web#0"},
        {"r": 'GET /"\\\xe9 HTTP/1.1', "s": 400, "b": 42, "type": "text/plain; charset=utf-8",
         "w": "web#0"},
    ]  # fmt: skip
    assert '"socketserver" - 6 "-" "-"' in of_connection  # no request: the usual line


def test_a_format_that_is_wrong_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    one = Instance(tmp_path_factory.mktemp("wrong") / "instance", "")
    done = one.run("check", "app", "--access-log-format", "%(h)s %(z)s")
    assert done.returncode == 2
    assert "another atom at character 7" in done.stderr


def ask(served: Served, *targets: str, method: str = "GET", worker: str = "web") -> int:
    """Ask for `targets` on one connection at once, read all that comes, and return its port."""
    with Client(served, worker) as client:
        for target in targets:
            client.send(
                f"{method} {target} HTTP/1.1\r\nHost: a\r\nUser-Agent: me\r\n\r\n".encode("latin-1")
            )
        client.socket.shutdown(socket.SHUT_WR)
        while client._more():
            pass
        return client.port


def reset(served: Served, target: str) -> int:
    """Ask, and reset the connection: at once, or, if the answer is a big one, in the midst of
    it."""
    with Client(served, "web", receive_buffer=4096) as client:
        client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
        if target == "/big":
            client.socket.recv(1000)
        else:
            served.wait_event(client.socket, "asked")
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return client.port


def web_socket(served: Served, target: str, message: str, code: int, reason: str) -> int:
    """Say `message`, and close, if the server does not."""
    with connect(
        f"ws://127.0.0.1:{served.port('ws')}{target}", user_agent_header="browser"
    ) as client:
        port: int = client.socket.getsockname()[1]
        client.send(message)
        assert client.recv() == message
        if code:
            client.close(code, reason)
        else:
            with pytest.raises(ConnectionClosed):
                client.recv()
    return port


def speak_to_socketserver(served: Served) -> int:
    with Client(served, "old") as client:
        client.send(b"hello\n")
        assert client._more() == b"hello\n"
        return client.port


STORIES: dict[str, Callable[[Served], int]] = {
    "three": lambda served: ask(served, "/1?a=b", "/interim", "/3"),
    "head": lambda served: ask(served, "/head", method="HEAD"),
    "/boom": lambda served: ask(served, "/boom"),
    "/bye": lambda served: ask(served, "/bye"),
    "/raw": lambda served: ask(served, "/raw"),
    "/never": lambda served: reset(served, "/never"),
    "refused": lambda served: ask(served, '/"\x1b'),
    "/big": lambda served: reset(served, "/big"),
    "websocket": lambda served: web_socket(served, "/chat?room=1", "hello", 4001, "bye"),
    "our close": lambda served: web_socket(served, "/", "go", 0, ""),
    "no websocket": lambda served: ask(served, "/plain", worker="ws"),
    "forbidden": lambda served: shake_hands(served, "/forbidden"),
    "socketserver": speak_to_socketserver,
}


def shake_hands(served: Served, target: str) -> int:
    with Client(served, "ws") as client:
        client.send(
            f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert client._more().startswith(b"HTTP/1.1 403")
        return client.port


@pytest.fixture(scope="module")
def lines(served: Served) -> dict[str, list[dict[str, Any]]]:
    """What the access log says of each story: all of them are told first, since lines come with a
    delay."""
    ports = {name: story(served) for name, story in STORIES.items()}
    wanted = {name: 3 if name == "three" else 1 for name in STORIES}
    found: dict[str, list[dict[str, Any]]] = {}

    def all_there() -> bool:
        found.update({name: lines_of(served, port) for name, port in ports.items()})
        return all(len(found[name]) >= count for name, count in wanted.items())

    wait_for(all_there, f"lines for all of {ports} in {served.access}", 20)  # type: ignore[attr-defined]
    assert {name: len(each) for name, each in found.items()} == wanted, "and no more"
    return found


Lines = dict[str, list[dict[str, Any]]]


def test_every_exchange_has_a_line(served: Served, lines: Lines) -> None:
    one, two, three = lines["three"]
    assert (one["method"], one["target"], one["version"]) == ("GET", "/1?a=b", "1.1")
    assert (one["status"], one["bytes_sent"], one["user_agent"], one["referer"]) == (
        200,
        5,
        "me",
        "",
    )
    assert (one["process"], one["protocol"], one["pid"]) == (
        "web#0",
        "http",
        served.row("web")["pid"],
    )
    assert 0 < one["ms"] < 60_000
    assert (two["status"], two["bytes_sent"]) == (201, 4)
    assert (three["status"], three["target"]) == (200, "/3")
    (head,) = lines["head"]
    assert (head["method"], head["bytes_sent"]) == ("HEAD", 0)


@pytest.mark.parametrize(
    ("target", "status", "size"),
    [("/boom", 500, 26), ("/bye", 444, 0), ("/raw", 202, 5), ("/never", 499, 0)],
)
def test_whatever_became_of_it(lines: Lines, target: str, status: int, size: int) -> None:
    (line,) = lines[target]
    assert (line["target"], line["status"], line["bytes_sent"]) == (target, status, size)
    assert line.get("aborted", False) == (status in (444, 499))


def test_what_the_protocol_refuses(lines: Lines) -> None:
    (line,) = lines["refused"]
    assert (line["status"], line["target"]) == (400, '/"\x1b')


def test_a_peer_that_leaves_in_the_middle_of_an_answer(lines: Lines) -> None:
    (line,) = lines["/big"]
    assert (line["status"], line["aborted"]) == (200, True)
    assert 0 < line["bytes_sent"] < 8_000_000


def test_a_websocket_has_one_line_when_it_has_closed(lines: Lines) -> None:
    (line,) = lines["websocket"]
    assert (line["status"], line["target"], line["user_agent"]) == (101, "/chat?room=1", "browser")
    assert (line["close_code"], line["close_reason"], line["protocol"]) == (
        4001,
        "bye",
        "websocket",
    )
    assert line["bytes_received"] > 100
    assert line["bytes_sent"] > 100
    (line,) = lines["our close"]
    assert (line["close_code"], line["close_reason"]) == (4002, "gone")


def test_a_websocket_that_was_refused(lines: Lines) -> None:
    (line,) = lines["no websocket"]
    assert (line["status"], line["target"], line["method"]) == (426, "/plain", "GET")
    (line,) = lines["forbidden"]
    assert (line["status"], line["target"]) == (403, "/forbidden")
    assert "close_code" not in line


def test_a_socketserver_class_has_a_line_too(lines: Lines) -> None:
    (line,) = lines["socketserver"]
    assert (line["protocol"], line["bytes_received"], line["bytes_sent"]) == ("socketserver", 6, 6)
    assert "status" not in line


def test_each_record_of_the_log_is_an_object(served: Served, lines: Lines) -> None:
    records = json_lines(served.log)
    (found, *_) = [record for record in records if "exception" in record]
    assert (found["level"], found["process"]) == ("error", "web#0")
    assert found["exception"].endswith("ValueError: on purpose\nin two lines")
    assert {record["process"] for record in records} >= {"arbiter", "web#0"}


def test_what_moves_has_one_line_and_what_repeats_itself_is_counted(served: Served) -> None:
    with connect(f"ws://127.0.0.1:{served.port('ws')}/moved") as client:
        client.send("before")
        assert client.recv() == "before"
        port, web = client.socket.getsockname()[1], served.row("web")["pid"]
        for _ in range(20):
            ask(served, "/boom")
        assert served.reload()["exit"] == 0
        client.send("after")
        assert client.recv() == "after", "the same connection, in another process"
        assert lines_of(served, port) == []
    wait_for(lambda: lines_of(served, port), "its line")
    (line,) = lines_of(served, port)
    assert (line["target"], line["status"], line["pid"]) == ("/moved", 101, served.row("ws")["pid"])
    wait_for(lambda: f"(pid {web}) has left" in served.read_log(), "the old process has told it")
    told = [
        each
        for each in json_lines(served.log)
        if each["pid"] == web and "in on_message" in each["message"]
    ]
    in_full = [record for record in told if "exception" in record]
    assert sum(record.get("repeated", 0) for record in told) + len(in_full) == 1 + 20
    assert len(in_full) < 20, "the first ten, and not for ever"


def test_usr1_makes_the_files_anew_for_every_process(served: Served) -> None:
    access: Path = served.access  # type: ignore[attr-defined]
    before, moved = ask(served, "/before"), access.with_name("access.1")
    access.rename(moved)
    served.log.rename(served.log.with_name("log.1"))
    served.signal(signal.SIGUSR1)
    wait_for(lambda: access.exists() and served.log.exists(), "made anew")
    served.wait_log("log files reopened")
    after = ask(served, "/after")
    wait_for(lambda: lines_of(served, after), "a line in the new file")
    assert f"127.0.0.1:{before}" in [line["remote"] for line in json_lines(moved)], (
        "what was gathered before"
    )
    assert lines_of(served, before) == []


def test_callbacks_of_the_instance_run_in_children_of_their_own(served: Served) -> None:
    hooks = served.directory / "hooks"
    wait_for(lambda: hooks.exists() and "reload hooked\n" in hooks.read_text(), "on_master_reload")
    log = served.log.with_name("log.1").read_text() + served.read_log()
    assert "hooked: exception in on_master_reload" in log
    (row,) = served.workers("hooked")
    os.kill(row["pid"], signal.SIGKILL)
    wait_for(
        lambda: f"exit hooked 0 {row['pid']} killed by signal 9 (SIGKILL)\n" in hooks.read_text(),
        "on_worker_exit",
    )
    served.signal(signal.SIGINT)
    assert served.wait_exit() == 0
    assert hooks.read_text().endswith("stop hooked\n")
    assert not served.processes()
    assert "stopped" in served.read_log()


# ---- a reader that stands still


def is_running(one: Instance) -> bool:
    with suppress(control.ControlError, instances.NotRunning, ValueError, IndexError):
        return bool(one.status()["state"] == "running")
    return False


def small_pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    return reader, writer


def test_a_reader_that_stands_still_stops_no_process(tmp_path: Path) -> None:
    one = Served(tmp_path / "instance", APP)
    out, err = small_pipe(), small_pipe()
    one.process = subprocess.Popen(
        one.command("app:web", "--access-log", "-"),
        cwd=one.directory,
        text=True,
        stdout=out[1],
        stderr=err[1],
    )
    try:
        wait_for(lambda: is_running(one), "it runs")
        port = Instance.port(one, "web")
        for _ in range(30):
            with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as client:
                client.sendall(b"GET /boom HTTP/1.1\r\nHost: a\r\n\r\n")
                assert client.recv(1000).startswith(b"HTTP/1.1 500")
        for _ in range(20):
            one.signal(signal.SIGUSR1)  # the arbiter logs each, and what follows
            assert one.status()["state"] == "running"
        assert os.get_blocking(err[1]), "what we share with others is as it was"
        read = os.read(err[0], 1 << 20).decode()
        assert "exception in on_message" in read
        one.signal(signal.SIGUSR1)
        lines = wait_for(lambda: os.read(err[0], 1 << 20).decode(), "it goes on", DEADLINE)
        assert " log records before this one are lost" in lines
        assert ' "GET /boom HTTP/1.1" 500 26 ' in os.read(out[0], 1 << 20).decode()
    finally:
        one.kill()
        for descriptor in (*out, *err):
            os.close(descriptor)
