"""Uploads, streams, events, files and the switch to WebSocket, over sockets, in one instance."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress

import places
import psutil
import pytest
from instance import DEADLINE, wait_for
from serving import Client, Served, serve
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

pytestmark = pytest.mark.timeout(180)

BIG = 8 << 20

APP = places.app("http_streams")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, APP, "--access-log", "access") as one:
        (one.directory / "big").write_bytes(os.urandom(BIG))
        yield one


def ask(
    app: Served, path: str, body: object = None, method: str = "GET", **headers: str
) -> tuple[int, bytes]:
    client = http.client.HTTPConnection("127.0.0.1", app.port("web"), timeout=DEADLINE)
    try:
        client.request(
            method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
        )  # type: ignore[arg-type]
        response = client.getresponse()
        return response.status, response.read()
    finally:
        client.close()


def head(path: str, *fields: str, method: str = "POST") -> str:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", *fields, "", ""])


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# ---- uploads


def test_an_upload_is_read_while_it_arrives(app: Served) -> None:
    data = os.urandom(1 << 20)
    expected = (200, f"{len(data)} {digest(data)}".encode())
    assert ask(app, "/size", data, "POST") == expected
    assert (
        ask(app, "/size", iter([data[:1], data[1:5000], data[5000:]]), "POST") == expected
    )  # chunked
    assert ask(app, "/size", b"short", "POST") == (200, f"5 {digest(b'short')}".encode())


def test_what_was_read_of_an_upload_waits_no_more(app: Served) -> None:
    with Client(app, "web") as client:
        client.http(head("/size", "Content-Length: 500000") + "x" * 500000)
        assert app.wait_event(client.port, "queue 0") == ["queue 0"]


def test_who_is_not_read_is_held_back(app: Served) -> None:
    data = b"x" * (64 << 20)
    with Client(app, "web") as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        client.send(head("/late", f"Content-Length: {len(data)}"))
        client.wait_event("began")
        client.socket.settimeout(0.3)
        sent = 0
        with pytest.raises(TimeoutError):
            while True:
                sent += client.socket.send(data[sent : sent + 65536])
        assert sent < 32 << 20  # what the kernel's buffers hold, and one read
        before = app.server("web").memory_info().rss
        (app.directory / "go").touch()
        client.socket.settimeout(DEADLINE)
        client.socket.sendall(memoryview(data)[sent:])
        assert client.answer()[2].decode() == f"{len(data)} {digest(data)}"
        assert app.server("web").memory_info().rss - before < 8 << 20


def test_100_continue_waits_for_the_reader(app: Served) -> None:
    with Client(app, "web") as client:
        client.send(head("/size", "Content-Length: 5000", "Expect: 100-continue"))
        assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"x" * 5000)
        assert client.answer()[2].startswith(b"5000 ")
        status, fields, _ = client.http(
            head("/ignore", "Content-Length: 5000", "Expect: 100-continue")
        )
        assert (status, fields["connection"]) == (200, "close")
        assert client.rest() == b""


def test_what_is_not_read_is_dropped_or_ends_the_connection(app: Served) -> None:
    with Client(app, "web") as client:
        assert client.http(head("/ignore", "Content-Length: 5000") + "x" * 5000)[2] == b"ignored"
        assert client.http(head("/ignore", "Content-Length: 5000"))[2] == b"ignored"
        client.send("x" * 5000)
        assert (
            client.http(
                head("/ignore", "Transfer-Encoding: chunked") + "1388\r\n" + "x" * 5000 + "\r\n"
            )[1]["connection"]
            == "close"
        )
        assert client.is_cut()


def test_a_whole_body_is_bounded(app: Served) -> None:
    assert ask(app, "/whole", b"x" * 20000, "POST") == (200, b"20000")
    status, text = ask(app, "/whole", b"x" * 20001, "POST")
    assert (status, text.partition(b":")[2]) == (413, b" body longer than 20000 bytes\n")
    before = app.row("web")["exceptions"]
    assert ask(app, "/whole", iter([b"x" * 20001]), "POST")[0] == 413
    assert app.row("web")["exceptions"] == before


@pytest.mark.parametrize(
    ("sent", "status"),
    [("x", 408), ("5\r\nhello\r\nnonsense\r\n", 400)],
)
def test_faults_within_a_body_are_the_peers(app: Served, sent: str, status: int) -> None:
    before = app.row("web")["exceptions"]
    with Client(app, "web") as client:
        fields = "Content-Length: 5000" if status == 408 else "Transfer-Encoding: chunked"
        padding = "" if status == 408 else "1388\r\n" + "x" * 5000 + "\r\n"
        assert client.http(head("/size", fields) + padding + sent)[0] == status
        assert client.rest() == b""
    with Client(app, "web") as client:
        client.send(head("/size", "Content-Length: 5000") + "x")
        client.reset()
    with Client(app, "web") as client:
        client.send(head("/size", "Content-Length: 5000") + "x")
        client.finish()
        assert client.answer()[0] == 400
    assert ask(app, "/bad")[0] == 500
    assert app.row("web")["exceptions"] == before + 1


def test_a_form_with_files(app: Served) -> None:
    data = os.urandom(300_000)
    part = b'--XX\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
    body = part % (b"a", b"", b"value") + part % (b"f", b'; filename="f.bin"', data) + b"--XX--\r\n"
    for content in (body, iter([body[:100], body[100:]])):
        found = ask(app, "/form", content, "POST", Content_Type="multipart/form-data; boundary=XX")
        assert (found[0], json.loads(found[1])) == (200, {"f": ["f.bin", digest(data)]})
    small = part % (b"f", b'; filename="s"', b"small") + b"--XX--"
    assert (
        ask(app, "/form", small, "POST", Content_Type="multipart/form-data; boundary=XX")[0] == 200
    )
    assert ask(app, "/closed") == (200, b"[True, True, True]")
    status, text = ask(
        app, "/form", body[:-20], "POST", Content_Type="multipart/form-data; boundary=XX"
    )
    assert (status, text.partition(b":")[0]) == (400, b"400 Bad Request")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl(app: Served) -> None:
    base = f"http://127.0.0.1:{app.port('web')}"
    big = app.directory / "big"

    def curl(*arguments: str) -> bytes:
        return subprocess.run(
            ["curl", "-sS", *arguments], capture_output=True, check=True, timeout=DEADLINE
        ).stdout

    assert curl("-T", str(big), f"{base}/size").split()[0] == b"%d" % BIG
    assert json.loads(curl("-F", "a=b", "-F", f"f=@{big}", f"{base}/form"))["f"] == [
        "big",
        digest(big.read_bytes()),
    ]
    assert curl("-T", str(big), f"{base}/echo") == big.read_bytes()
    assert len(curl("--http1.0", f"{base}/stream")) == 300_000
    assert curl("-r", "1-5", f"{base}/static/big") == big.read_bytes()[1:6]


# ---- answers in pieces


def test_a_stream_and_what_follows(app: Served) -> None:
    """Pipelined: the next answer waits for the end of the stream."""
    with Client(app, "web") as client:
        client.send(
            head("/stream", method="GET")
            + head("/root", method="GET")
            + head("/stream", method="HEAD")
            + head("/root", method="GET")
        )
        fields = client.until(b"\r\n\r\n")
        assert b"Transfer-Encoding: chunked" in fields
        body = client.until(b"0\r\n\r\n")
        assert body == (b"186a0\r\n" + b"x" * 100000 + b"\r\n") * 3 + b"0\r\n\r\n"
        assert client.answer()[2] == b"root"
        assert client.answer(head_only=True)[1]["transfer-encoding"] == "chunked"
        assert client.answer()[2] == b"root"
        assert client.events()[0] == "closed"


def test_a_stream_goes_no_faster_than_its_reader(app: Served) -> None:
    rss = app.server("web").memory_info().rss
    with Client(app, "web", receive_buffer=65536) as client:
        client.send(head("/stream?count=1000", method="GET"))
        client.until(b"\r\n\r\n")
        wait_for(
            lambda: json.loads(app.run("connections", "--json").stdout)[0]["send_queue"] > 0,
            "a full socket",
        )
        assert "closed" not in client.events()
        assert app.server("web").memory_info().rss - rss < 8 << 20
        client.reset()
        app.wait_event(client.port, "closed")


def test_a_stream_that_breaks_is_seen_to(app: Served) -> None:
    client = http.client.HTTPConnection("127.0.0.1", app.port("web"), timeout=DEADLINE)
    client.request("GET", "/broken")
    with pytest.raises(http.client.IncompleteRead):
        client.getresponse().read()
    client.close()
    with Client(app, "web") as old:
        old.send("GET /broken HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            old.rest()


def test_half_closed_is_not_gone(app: Served) -> None:
    with Client(app, "web") as client:
        client.send(head("/stream", method="GET"))
        client.finish()
        assert client.rest().endswith(b"\r\n0\r\n\r\n")


def test_events_end_with_their_reader(app: Served) -> None:
    with Client(app, "web") as client:
        client.send(head("/events", method="GET"))
        assert b"Content-Type: text/event-stream\r\n" in client.until(b"\r\n\r\n")
        assert b"data: one\ndata: two\n\n" in client.until(b"data: two\n\n")
        client.until(b"id: 3\ndata: three\n\n")
    app.wait_event(client.port, "closed")  # it would have slept for an hour


@pytest.mark.parametrize("more", [1, 5])
def test_events_end_with_a_reader_that_has_asked_for_more(app: Served, more: int) -> None:
    with Client(app, "web") as client:
        client.send(head("/events", method="GET"))
        client.until(b"id: 3\ndata: three\n\n")
        for _ in range(more):
            before = app.row("web")["bytes_read"]
            client.send(head("/root", method="GET"))
            app.counted("web", bytes_read=before + 1)
    app.wait_event(client.port, "closed")


def test_who_sends_without_end_while_it_is_sent_events_is_cut(app: Served) -> None:
    with Client(app, "web") as client:
        client.send(head("/events", method="GET"))
        client.until(b"id: 3\ndata: three\n\n")
        with suppress(OSError):
            client.send("x" * 1000000)
        app.wait_event(client.port, "closed")


def test_events_end_in_order_when_the_connection_is_closed(app: Served) -> None:
    with Client(app, "web") as client:
        client.send(head("/events?close=1", method="GET"))
        assert client.rest().endswith(b"data: three\n\n\r\n0\r\n\r\n")
    app.wait_event(client.port, "closed")


def test_events_are_kept_alive(app: Served) -> None:
    with Client(app, "web") as client:
        client.send(head("/events?keep=0.05", method="GET"))
        client.until(b"data: three\n\n\r\n3\r\n:\n\n\r\n3\r\n:\n\n\r\n")


def test_a_file_to_a_slow_reader(app: Served) -> None:
    content = (app.directory / "big").read_bytes()
    with Client(app, "web", receive_buffer=65536) as client:
        client.send(head("/file", method="GET") + head("/file", "Range: bytes=-3", method="GET"))
        status, fields, body = client.answer()
        assert (status, body == content, fields["accept-ranges"]) == (200, True, "bytes")
        status, fields, body = client.answer()
        assert (status, body, fields["content-range"]) == (
            206,
            content[-3:],
            f"bytes {BIG - 3}-{BIG - 1}/{BIG}",
        )
        status, fields, body = client.http(
            head("/file", f"If-None-Match: {fields['etag']}", method="GET")
        )
        assert (status, body, "content-length" in fields) == (304, b"", False)
    assert ask(app, "/static/..%2fx")[0] == 400


def test_every_answer_has_a_date(app: Served) -> None:
    with Client(app, "web") as client:
        for request in (
            head("/root", method="GET"),
            head("/stream", method="HEAD"),
            head("/none", method="GET"),
        ):
            client.send(request)
            assert client.until(b"\r\n\r\n").count(b"\r\nDate: ") == 1
            client.buffer.clear()
            if "root" in request:
                client.exactly(0)
    with Client(app, "web") as client:
        client.send("nonsense\r\n\r\n")
        assert b"\r\nDate: " in client.rest()


# ---- one port with WebSocket


def websocket(app: Served, path: str, name: str = "web") -> ClientConnection:
    return connect(f"ws://127.0.0.1:{app.port(name)}{path}", open_timeout=DEADLINE)


def test_http_and_websocket_share_a_port(app: Served) -> None:
    with websocket(app, "/chat") as client:
        port = client.socket.getsockname()[1]
        assert client.recv(DEADLINE) == "welcome /chat websocket"
        client.send("abc")
        assert client.recv(DEADLINE) == "ABC"
    app.wait_event(port, "left")
    with websocket(app, "/plain") as client:
        client.send(b"raw")
        assert client.recv(DEADLINE) == b"raw"
    assert ask(app, "/plain")[0] == 426
    assert ask(app, "/root") == (200, b"root")


@pytest.mark.parametrize(("name", "answer"), [("web", "abc"), ("talk", "cba")])
def test_an_upgrade_after_the_handler(app: Served, name: str, answer: str) -> None:
    with websocket(app, "/afterwards", name) as socket_:
        socket_.send("abc")
        assert socket_.recv(DEADLINE) == answer


# ---- connection handlers


def test_the_same_in_a_connection_handler(app: Served) -> None:
    with Client(app, "talk") as client:
        assert client.http(head("/", "Content-Length: 3") + "abc")[2] == b"3"
        client.send(head("/stream", method="GET"))
        assert client.until(b"0\r\n\r\n").endswith(b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n")
        client.send(head("/", "Transfer-Encoding: chunked") + "1\r\na\r\n")
        client.send("2\r\nbc\r\n0\r\n\r\n")
        assert client.answer()[2] == b"3"
        client.send(head("/last", method="GET"))
        assert client.rest().endswith(b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n")
    with websocket(app, "/", "talk") as socket_:
        socket_.send("abc")
        assert socket_.recv(DEADLINE) == "cba"


def test_the_timeout_of_recv_is_for_waiting_alone(app: Served) -> None:
    with Client(app, "hasty") as client:
        client.send(head("/", method="GET"))
        assert client.until(b"0\r\n\r\n").endswith(b"1\r\n2\r\n1\r\n3\r\n0\r\n\r\n")
        client.wait_event("timeout")


def test_a_timeout_of_the_handlers_own_ends_its_stream_and_is_its_own(app: Served) -> None:
    with Client(app, "hasty") as client:
        client.send(head("/own", method="GET"))
        assert client.rest().endswith(b"\r\n\r\n1\r\n0\r\n")  # and no last chunk
    wait_for(lambda: app.events(client.port)[1:2], "the handler")
    assert app.events(client.port)[0] == "closed"
    assert app.events(client.port)[1].startswith("own clos")


def test_a_stream_without_end_is_cut_when_its_connection_is_closed(app: Served) -> None:
    for old in ("1.1", "1.0"):
        with Client(app, "hasty") as client:
            client.send(head("/unending", method="GET").replace("1.1", old))
            client.until(b"0\r\n" if old == "1.1" else b"\r\n\r\n0")
            if old == "1.1":
                assert client.rest() == b""  # no last chunk
            else:
                with pytest.raises(ConnectionError):  # else it would look complete
                    client.rest()
            client.wait_event("closed")


def test_an_answer_with_a_length_goes_on_while_it_is_taken(app: Served) -> None:
    with Client(app, "hasty", receive_buffer=65536) as client:
        client.send(head("/file", method="GET"))
        client.until(b"\r\n\r\n")
        for _ in range(8):
            time.sleep(0.12)  # a slow reader
            client.exactly(BIG // 8)


def test_an_answer_is_sent_before_its_connection_is_closed(app: Served) -> None:
    with Client(app, "hasty") as client:
        client.send(head("/last", method="GET"))
        assert client.rest().endswith(b"1\r\n3\r\n0\r\n\r\n")


def test_another_greenlet_answers_while_the_handler_waits(app: Served) -> None:
    with Client(app, "hasty") as client:
        client.send(head("/elsewhere", method="GET"))
        assert client.until(b"0\r\n\r\n").endswith(b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n")


# ---- the rest of the world


def test_the_access_log_counts_them(app: Served) -> None:
    access = app.directory / "access"
    upgraded = re.compile(r'"GET /chat HTTP/1.1" 101 [1-9]\d* .* in=[1-9]\d* close=\d+ ')
    wait_for(
        lambda: upgraded.search(access.read_text()),
        "what was upgraded, as a WebSocket that has closed",
    )
    text = access.read_text()
    assert '"GET /chat HTTP/1.1" 101 0 ' not in text
    assert '"GET /stream HTTP/1.1" 200 300032 ' in text  # with the framing of its chunks
    assert f'"GET /file HTTP/1.1" 200 {BIG} ' in text
    assert '"GET /file HTTP/1.1" 206 3 ' in text
    assert '"POST /size HTTP/1.1" 408 ' in text


def test_a_reload_waits_for_a_stream_and_hands_the_rest_over(app: Served) -> None:
    with (
        Client(app, "web") as stream,
        Client(app, "web") as events,
        websocket(app, "/chat") as chat,
    ):
        port = chat.socket.getsockname()[1]
        assert chat.recv(DEADLINE) == "welcome /chat websocket"
        stream.send(head("/slow", method="GET"))
        stream.until(b"begun\r\n")
        stream.send(
            head("/size", "Content-Length: 20000") + "x" * 10000
        )  # it begins when its process retires
        events.send(head("/events", method="GET"))
        events.until(b"three\n\n\r\n")
        old = app.row("web")["pid"]
        started = time.monotonic()
        assert app.reload()["exit"] == 0
        assert time.monotonic() - started < DEADLINE
        assert events.exactly(5) == b"0\r\n\r\n"  # it sleeps for an hour, but its process retires
        events.wait_event("closed")
        assert events.http(head("/root", method="GET"))[2] == b"root"
        with pytest.raises(ConnectionClosed) as ended:  # it has callbacks of its own
            chat.recv(DEADLINE)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1012
        assert psutil.pid_exists(old)
        (app.directory / "go-slow").touch()
        assert stream.until(b"0\r\n\r\n").endswith(b"5\r\nended\r\n0\r\n\r\n")
        stream.send("x" * 10000)
        assert stream.answer()[2].startswith(b"20000 ")
        assert stream.http(head("/root", method="GET"))[2] == b"root"  # answered by the successor
    app.wait_event(port, "left")
    assert "not handed over" not in app.read_log()
