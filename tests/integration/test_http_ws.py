"""HTTP and WebSocket over the wire, with the clients that others wrote and with bytes of our
own."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import places
import pytest
from instance import DEADLINE, wait_for
from serving import Client, Served, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

pytestmark = pytest.mark.timeout(120)

APP = places.app("http_and_websocket")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, APP) as one:
        yield one


def get(path: str, *fields: str, method: str = "GET", version: str = "1.1", body: str = "") -> str:
    """The text of a request."""
    lines = [f"{method} {path} HTTP/{version}", "Host: a", *fields]
    return "".join(line + "\r\n" for line in lines) + "\r\n" + body


# ---- HTTP


def test_http_client(app: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", app.port("web"), timeout=DEADLINE)
    for method, body in (("GET", None), ("POST", b"a=b"), ("PUT", b"x" * 90_000), ("DELETE", None)):
        connection.request(method, "/body?a=b", body=body)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, body or b"")
    connection.request("POST", "/who?a=b&c=%20d", body=b"text")
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(answer.read()) == {
        "method": "POST", "path": "/who", "query": {"a": "b", "c": " d"}, "version": "1.1",
        "host": f"127.0.0.1:{app.port('web')}", "keep_alive": True, "body": "text",
    }  # fmt: skip
    connection.close()


def test_keep_alive(app: Served) -> None:
    with Client(app, "web") as client:
        for number in range(5):
            status, fields, body = client.http(get(f"/{number}"))
            assert (status, body) == (200, f"GET /{number}".encode())
            assert "connection" not in fields
        client.finish()
        assert client.rest() == b""
    client.wait_story("connect", *(f"GET /{number}" for number in range(5)), "close")


def test_pipelined_requests_are_answered_in_order(app: Served) -> None:
    with Client(app, "web") as client:
        waits = [0.3, 0.0, 0.1, 0.0]
        client.send(
            "".join(get(f"/slow?seconds={seconds}&n={n}") for n, seconds in enumerate(waits))
        )
        for number, seconds in enumerate(waits):
            assert client.answer()[2] == f"seconds={seconds}&n={number}".encode()


def test_hundreds_of_pipelined_requests(app: Served) -> None:
    with Client(app, "web") as client:
        requests = "".join(get(f"/{number}") for number in range(1000))
        sender = threading.Thread(target=client.send, args=(requests,))
        sender.start()
        assert [client.answer()[2] for _ in range(1000)] == [
            f"GET /{number}".encode() for number in range(1000)
        ]
        sender.join(DEADLINE)


@pytest.mark.parametrize("how", ["at once", "half-closed", "later"])
def test_pipelined_requests_with_answers_larger_than_the_send_buffer(app: Served, how: str) -> None:
    sizes = (8_000_000, 3_000_000, 5)
    requests = [get(f"/big?size={size}") for size in sizes]
    with Client(app, "web", receive_buffer=8192) as client:
        if how == "later":
            client.send(requests[0])
            client.wait_event(f"GET /big?size={sizes[0]}")
            client.send("".join(requests[1:]))
        else:
            client.send("".join(requests))
        if how == "half-closed":
            client.finish()
        for size in sizes:
            assert client.answer()[2] == b"x" * size


def test_an_answer_from_another_greenlet(app: Served) -> None:
    with Client(app, "web") as client:
        client.send(get("/later?a") + get("/b") + get("/later?c"))
        assert [client.answer()[2] for _ in range(3)] == [b"later a", b"GET /b", b"later c"]


def test_half_close_before_the_answer(app: Served) -> None:
    with Client(app, "web") as client:
        client.send(get("/slow?a") + get("/b"))
        client.finish()
        assert client.answer()[2] == b"a"
        assert client.answer()[2] == b"GET /b"
        assert client.rest() == b""


def test_http_1_0(app: Served) -> None:
    with Client(app, "web") as client:
        status, fields, body = client.http("GET /a HTTP/1.0\r\n\r\n")
        assert (status, body, fields["connection"]) == (200, b"GET /a", "close")
        assert client.rest() == b""
    with Client(app, "web") as client:
        for _ in range(2):
            status, fields, body = client.http("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert (status, body, fields["connection"]) == (200, b"GET /a", "keep-alive")


def test_connection_close(app: Served) -> None:
    for request in (get("/a", "Connection: close"), get("/wants-close")):
        with Client(app, "web") as client:
            client.send(request + get("/too-late"))
            status, fields, _ = client.answer()
            assert (status, fields["connection"]) == (200, "close")
            assert client.rest() == b""


def test_close_with_an_answer(app: Served) -> None:
    with Client(app, "web") as client:
        _, fields, body = client.http(get("/close"))
        assert (fields["connection"], body) == ("close", b"last")
        assert client.rest() == b""


def test_head(app: Served) -> None:
    with Client(app, "web") as client:
        client.send(get("/a", method="HEAD") + get("/b"))
        status, fields, _ = client.answer(head_only=True)
        assert (status, fields["content-length"]) == (200, str(len("HEAD /a")))
        assert client.answer()[2] == b"GET /b"


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_content_is_followed_by_the_next(app: Served, status: int) -> None:
    with Client(app, "web") as client:
        client.send(get(f"/status?code={status}&body=nothing") + get("/b"))
        assert client.answer(head_only=True)[0] == status
        assert client.answer()[2] == b"GET /b"


def test_100_continue(app: Served) -> None:
    with Client(app, "web") as client:
        client.send(get("/body", "Expect: 100-continue", "Content-Length: 5", method="POST"))
        assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert client.http("abcde")[2] == b"abcde"


def test_early_hints(app: Served) -> None:
    with Client(app, "web") as client:
        client.send(get("/hints") + get("/b"))
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 103 ")
        assert client.answer()[2] == b"final"
        assert client.answer()[2] == b"GET /b"


def test_chunked_bodies(app: Served) -> None:
    with Client(app, "web") as client:
        head = get("/body", "Transfer-Encoding: chunked", method="POST")
        body = "5\r\nabcde\r\nA;ext=1\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
        assert client.http(head + body)[2] == b"abcde0123456789"
        for byte in head + body:
            client.send(byte)
        assert client.answer()[2] == b"abcde0123456789"
        assert client.http(get("/b"))[2] == b"GET /b"


BAD = [
    (400, "nonsense\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    (400, get("/", "Content-Length: 5", "Content-Length: 6", body="abcdef")),
    (400, get("/", "Content-Length: 5", "Transfer-Encoding: chunked", body="0\r\n\r\n")),
    (400, get("/", "Bad Name: x")),
    (400, get("/", "Transfer-Encoding: chunked", method="POST", body="zz\r\n")),
    (413, get("/", "Content-Length: 100001", method="POST")),
    (413, get("/", "Transfer-Encoding: chunked", method="POST", body="186a1\r\n")),
    (414, get("/" + "x" * 9000)),
    (417, get("/", "Expect: something")),
    (431, get("/", "X: " + "y" * 17_000)),
    (431, get("/", *["X: y"] * 101)),
    (501, get("/", "Transfer-Encoding: gzip", method="POST")),
    (501, get("/", method="NONSENSE")),
    (505, get("/", version="2.0")),
]


@pytest.mark.parametrize(
    ("status", "request_"), BAD, ids=[f"{status}-{n}" for n, (status, _) in enumerate(BAD)]
)
def test_what_is_refused(app: Served, status: int, request_: str) -> None:
    """The good request before it is answered, what follows it is not; and the answer is not lost to
    a reset."""
    with Client(app, "web") as client:
        client.send(get("/slow?before") + request_ + get("/after"))
        assert client.answer()[2] == b"before"
        found, fields, body = client.answer()
        assert (found, fields["connection"]) == (status, "close")
        assert body
        assert client.rest() == b""
    assert client.wait_event("close") == ["connect", "GET /slow?before", "close"]


def test_a_body_that_is_refused_while_it_is_sent(app: Served) -> None:
    with Client(app, "web") as client:
        client.send(get("/", "Content-Length: 500000", method="POST") + "x" * 500_000)
        assert client.answer()[0] == 413
        assert client.rest() == b""


@pytest.mark.parametrize("path", ["/raise", "/bad"])
def test_an_exception_is_a_500(app: Served, path: str) -> None:
    with Client(app, "web") as client:
        client.send(get(path) + get("/after"))
        status, fields, _ = client.answer()
        assert (status, fields["connection"]) == (500, "close")
        assert client.rest() == b""
    client.wait_story("connect", f"GET {path}", "close")


@pytest.mark.parametrize(("path", "body"), [("/raise-after", b"sent"), ("/twice", b"once")])
def test_an_exception_after_the_answer_closes(app: Served, path: str, body: bytes) -> None:
    with Client(app, "web") as client:
        assert client.http(get(path))[2] == body
        assert client.rest() == b""


# ---- WebSocket


@contextmanager
def websocket(
    app: Served, path: str = "/", greet: bool = True, **options: Any
) -> Iterator[ClientConnection]:
    url = f"ws://127.0.0.1:{app.port('sock')}{path}"
    with connect(url, open_timeout=DEADLINE, close_timeout=DEADLINE, **options) as client:
        if greet:
            assert client.recv(DEADLINE) == "first of all"
            assert client.recv(DEADLINE) == b"and second"
        yield client


def port_of(client: ClientConnection) -> int:
    port: int = client.local_address[1]
    return port


def ended(client: ClientConnection) -> tuple[int, str]:
    """The close code and reason that the server sent."""
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            client.recv(DEADLINE)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


def test_text_and_binary(app: Served) -> None:
    with websocket(app) as client:
        for message in ("text", "ünïcödé ☃", b"binary", "", b"", "x" * 99_000, b"y" * 70_000):
            client.send(message)
            assert client.recv(DEADLINE) == message
        port = port_of(client)
    app.wait_event(port, "close")
    assert app.events(port)[:2] == ["connect True", "handshake /"]
    assert app.events(port).count("close") == 1


def test_fragments(app: Served) -> None:
    with websocket(app) as client:
        client.send(iter(["one ", "two ", "", "three"]))
        assert client.recv(DEADLINE) == "one two three"
        client.send(iter([b"a", b"b"]))
        assert client.recv(DEADLINE) == b"ab"


def test_many_messages_keep_their_order(app: Served) -> None:
    with websocket(app) as client:
        for number in range(500):
            client.send(str(number))
        assert [client.recv(DEADLINE) for _ in range(500)] == [str(number) for number in range(500)]


def test_ping_is_answered_while_a_handler_blocks(app: Served) -> None:
    with websocket(app) as client:
        client.send("sleep")
        began = time.monotonic()
        for _ in range(3):
            assert client.ping().wait(DEADLINE)
        assert time.monotonic() - began < 0.9
        assert client.recv(DEADLINE) == "slept"


def test_the_client_closes(app: Served) -> None:
    with websocket(app) as client:
        port = port_of(client)
        client.close(4321, "enough")
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(DEADLINE)
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd_then_sent) == (4321, False)
    app.wait_event(port, "close")


def test_the_client_closes_while_a_handler_blocks(app: Served) -> None:
    with websocket(app) as client:
        client.send("sleep")
        app.wait_event(port_of(client), "message str 5")
        client.close()
        assert (
            client.recv(DEADLINE) == "slept"
        )  # the answer comes before the echo of the Close frame
        assert ended(client)[0] == 1000


def test_the_client_vanishes(app: Served) -> None:
    with websocket(app) as client:
        port = port_of(client)
        client.socket.close()
    app.wait_event(port, "close")


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ("close", 1000, ""),
        ("close-4000", 4000, "because"),
        ("raise", 1011, ""),
        ("object", 1011, ""),
        ("bad-code", 1011, ""),
    ],
)
def test_the_server_closes(app: Served, message: str, code: int, reason: str) -> None:
    with websocket(app) as client:
        port = port_of(client)
        client.send(message)
        if reason:
            assert client.recv(DEADLINE) == "last words"
        assert ended(client) == (code, reason)
    app.wait_event(port, "close")
    assert app.events(port).count("close") == 1


def test_a_message_that_is_too_large(app: Served) -> None:
    with websocket(app) as client:
        client.send(b"x" * 100_000)
        assert client.recv(DEADLINE) == b"x" * 100_000
        client.send("before")
        client.send(b"x" * 100_001)
        assert client.recv(DEADLINE) == "before"
        assert ended(client)[0] == 1009


def test_text_that_is_not_utf8(app: Served) -> None:
    with websocket(app) as client:
        client.send(b"\xff\xfe", text=True)
        assert ended(client)[0] == 1007


@pytest.mark.parametrize(
    ("path", "status"),
    [("/refuse", 403), ("/unauthorized", 401), ("/raise", 500), ("/bad-headers", 500)],
)
def test_a_handshake_that_is_refused(app: Served, path: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as caught, websocket(app, path):
        pass
    response = caught.value.response
    assert response.status_code == status
    if status == 401:
        assert response.headers["WWW-Authenticate"] == "Basic"
        assert response.body == b"who are you?"


def test_a_handshake_that_is_destroyed(app: Served) -> None:
    with Client(app, "sock") as client:
        client.send(get("/destroy", *HANDSHAKE))
        assert client.is_cut()
        client.wait_event("close")


HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


def test_headers_of_the_handshake(app: Served) -> None:
    with websocket(app, "/headers") as client:
        assert client.response is not None
        assert client.response.headers["X-Mine"] == "yes"
        assert client.response.headers["Set-Cookie"] == "a=b"
    with websocket(app) as client:
        assert client.response is not None
        assert "X-Mine" not in client.response.headers


def test_the_request_of_the_handshake(app: Served) -> None:
    with websocket(app, "/some/path?a=b") as client:
        client.send("request")
        assert client.recv(DEADLINE) == f"/some/path 127.0.0.1:{app.port('sock')}"


def test_messages_wait_for_a_slow_handshake(app: Served) -> None:
    with Client(app, "sock") as client:
        client.send(get("/slow", *HANDSHAKE))
        client.send(b"\x81\x83\0\0\0\0abc")
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        expected = b"\x81\x0cfirst of all\x82\x0aand second\x81\x03abc"
        assert client.exactly(len(expected)) == expected


def test_send_during_the_handshake_follows_the_101(app: Served) -> None:
    with websocket(app, "/send") as client:
        assert client.recv(DEADLINE) == "from the handshake"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/"), 426),
        (get("/", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 8"), 426),
        (get("/", *HANDSHAKE, method="POST"), 405),
        (get("/", *HANDSHAKE[:3]), 400),
        ("nonsense\r\n\r\n", 400),
    ],
)
def test_what_is_no_handshake(app: Served, request_: str, status: int) -> None:
    with Client(app, "sock") as client:
        found, fields, _ = client.http(request_)
        assert found == status
        if status == 426:
            assert fields["upgrade"] == "websocket"
        assert client.rest() == b""
        client.wait_event("close")


def test_frames_that_break_the_rules(app: Served) -> None:
    for frame in (
        b"\x81\x01a",
        b"\xf1\x80\0\0\0\0",
        b"\x83\x80\0\0\0\0",
        b"\x80\x80\0\0\0\0",
        b"\x09\x80\0\0\0\0",
    ):
        with Client(app, "sock") as client:
            client.send(get("/", *HANDSHAKE))
            client.until(b"second")
            client.send(frame)
            opcode, length = client.exactly(2)
            assert opcode == 0x88
            assert client.exactly(length)[:2] == (1002).to_bytes(2)
            assert client.is_cut()
            client.wait_event("close")


def test_nothing_is_left_over(app: Served) -> None:
    wait_for(lambda: app.status()["totals"]["connections"] == 0, "every connection is gone")
