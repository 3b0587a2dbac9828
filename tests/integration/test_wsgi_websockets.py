"""Applications of gevent-websocket, Flask-Sock, Socket.IO and flask-sockets, by real clients."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import places
import pytest
from instance import DEADLINE, wait_for
from serving import Client, Served, serve
from websocket_bytes import closing, frame, handshake
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    source = places.app("wsgi_websockets")
    with serve(tmp_path_factory, source, "--access-log", "access") as one:
        yield one


def opened(app: Served, path: str, name: str = "pages", **options: Any) -> ClientConnection:
    url = f"ws://127.0.0.1:{app.port(name)}{path}"
    return connect(url, open_timeout=DEADLINE, close_timeout=DEADLINE, **options)


def told(app: Served, name: str = "pages") -> list[str]:
    with Client(app, name) as client:
        status, _, body = client.http("GET /log HTTP/1.1\r\nHost: a\r\n\r\n")
        assert status == 200
        return body.decode().split("\n")


def wait_told(app: Served, *expected: str, name: str = "pages") -> None:
    wait_for(lambda: set(expected) <= set(told(app, name)), f"{expected}")


def refusal(app: Served, path: str, name: str = "pages", **options: Any) -> tuple[int, bytes]:
    with pytest.raises(InvalidStatus) as refused:
        opened(app, path, name, **options)
    return refused.value.response.status_code, bytes(refused.value.response.body or b"")


def ended(client: ClientConnection) -> tuple[int | None, str]:
    """Close code and reason of the server."""
    with pytest.raises(ConnectionClosed) as end:
        client.recv(DEADLINE)
    received = end.value.rcvd
    return (None, "") if received is None else (received.code, received.reason)


# ---- a loop that receives


def test_messages_come_back_by_their_kind(app: Served) -> None:
    with opened(app, "/echo") as client:
        for message in ("x", b"x", "", b"", "\xe9" * 50000):
            client.send(message)
            assert client.recv(DEADLINE) == message
        client.send("type")
        assert client.recv(DEADLINE) == "str type"
    wait_told(app, "echo has ended", "Connection is already closed")


def test_what_came_before_the_end_is_received(app: Served) -> None:
    with Client(app, "pages") as client:
        client.send(handshake("GET /collect HTTP/1.1") + frame(0x81, b"a") + frame(0x81, b"b"))
        client.send(closing(1000))
        assert client.rest().endswith(b"\x88\x02\x03\xe8")
    wait_told(app, "['a', 'b', None]")


def test_the_object_is_what_the_library_says(app: Served) -> None:
    with opened(app, "/say", origin="http://a", subprotocols=["x", "y"]) as client:
        assert [client.recv(DEADLINE) for _ in range(4)] == ["False", b"bytes", b"text", "text"]
        assert client.subprotocol is None
    found = told(app)
    at = found.index("/say x, y 13 http://a")
    assert found[at + 1 : at + 3] == ["True", "True"]


def test_pings_and_pongs_of_the_application(app: Served) -> None:
    with Client(app, "pages") as client:
        client.send(handshake("GET /say HTTP/1.1"))
        assert client.until(b"qq").endswith(b"\x89\x02pp\x8a\x02qq")


def test_close_has_its_code_and_wakes_who_receives(app: Served) -> None:
    with opened(app, "/close") as client:
        assert ended(client) == (4001, "bye")
    wait_told(app, "received None", "closed True", "Socket is dead")


@pytest.mark.parametrize("path", ["/return", "/nothing"])
def test_an_application_that_returns_closes_it(app: Served, path: str) -> None:
    with opened(app, path) as client:
        if path == "/return":
            assert client.recv(DEADLINE) == "x"
        assert ended(client)[0] == 1000


def test_one_that_fails_closes_it_with_1011(app: Served) -> None:
    with opened(app, "/fails") as client:
        assert client.recv(DEADLINE) == "x"
        assert ended(client)[0] == 1011
    assert "on purpose" in app.read_log()


def test_an_object_that_is_only_kept_opens_by_itself(app: Served) -> None:
    began = time.monotonic()
    with opened(app, "/kept") as client:
        assert 0.8 < time.monotonic() - began < 2.5
        assert client.recv(DEADLINE) == "late"


def test_a_peer_that_sends_more_than_is_received_is_held_back(app: Served) -> None:
    with opened(app, "/crowd") as client:
        assert client.recv(DEADLINE) == "go"
        for _ in range(300):
            client.send("x")
        assert client.recv(DEADLINE) == "all"


# ---- handshakes that become none


def test_a_refusal_reaches_the_client(app: Served) -> None:
    assert refusal(app, "/refused")[0] == 403
    with Client(app, "pages") as client:
        client.send(handshake("GET /refused HTTP/1.1") + b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.until(b"\r\n").startswith(b"HTTP/1.1 403 No entry")
        assert client.until(b"plain").count(b"HTTP/1.1 200 OK") == 1
    assert "plain True" in told(app)


def test_an_iterable_refuses(app: Served) -> None:
    status, body = refusal(app, "/later")
    assert (status, body) == (401, b"who are you?")
    wait_told(app, "iterable closed")


def test_an_application_that_raises_before_is_a_500(app: Served) -> None:
    assert refusal(app, "/raises")[0] == 500


def test_what_is_no_handshake_is_refused(app: Served) -> None:
    with Client(app, "pages") as client:
        bad = handshake("GET /echo HTTP/1.1", Sec_WebSocket_Version="8")
        assert client.http(bad)[0] == 426
    with Client(app, "pages") as client:
        assert client.http(handshake("GET /echo HTTP/1.1", Sec_WebSocket_Key="x"))[0] == 400


def test_the_socket_itself(app: Served) -> None:
    with Client(app, "pages") as client:
        client.send(handshake("GET /raw HTTP/1.1") + b"ahead")
        assert client.rest() == b"HTTP/1.1 200 OK\r\n\r\nahead"
    wait_told(app, "raw Socket is dead")
    access = app.directory / "access"
    wait_for(lambda: '"GET /raw HTTP/1.1" 200 ' in access.read_text(), "a line for it")


def test_the_eager_order_answers_first(app: Served) -> None:
    with opened(app, "/refused", "eager") as client:
        assert ended(client)[0] == 1000


# ---- Resource: callbacks


def test_an_idle_socket_of_a_resource_holds_no_greenlet(app: Served) -> None:
    with opened(app, "/chat", "rooms", subprotocols=["a", "v1.chat"]) as client:
        assert client.subprotocol == "v1.chat"
        assert client.recv(DEADLINE) == "welcome v1.chat"
        client.send("x")
        assert client.recv(DEADLINE) == "1 x"
        (row,) = [row for row in app_rows(app) if row["local"].endswith(str(app.port("rooms")))]
        assert row["status"] == "established"
    wait_told(app, "chat closed None", name="rooms")


def app_rows(app: Served) -> list[dict[str, Any]]:
    import json

    return list(json.loads(app.run("connections", "--json").stdout))


def test_one_that_receives_holds_one(app: Served) -> None:
    with opened(app, "/echo") as client:
        client.send("x")
        client.recv(DEADLINE)
        assert [row["status"] for row in app_rows(app) if row["protocol"] == "websocket"] == [
            "established, 1 greenlets"
        ]


def test_on_open_may_receive_and_what_comes_meanwhile_is_kept(app: Served) -> None:
    with Client(app, "rooms") as client:
        client.send(handshake("GET /chat/ask HTTP/1.1") + frame(0x81, b"a") + frame(0x81, b"b"))
        assert client.until(b"hello a")
        assert client.until(b"1 b")


def test_a_broadcast_reaches_all(app: Served) -> None:
    with opened(app, "/chat", "rooms") as one, opened(app, "/chat", "rooms") as other:
        assert one.recv(DEADLINE) == other.recv(DEADLINE) == "welcome v1.chat"
        one.send("x")
        assert one.recv(DEADLINE) == other.recv(DEADLINE) == "2 x"


@pytest.mark.parametrize(("path", "has_key"), [("/chat", False), ("/tagged", True)])
def test_the_environ_is_made_again_unless_something_is_there(
    app: Served, path: str, has_key: bool
) -> None:
    with opened(app, path, "rooms") as client:
        client.recv(DEADLINE)
        client.send("who")
        assert client.recv(DEADLINE) == f"127.0.0.1:{app.port('rooms')}{has_key}"


def test_an_exception_in_a_callback_costs_its_connection(app: Served) -> None:
    with opened(app, "/chat", "rooms") as client:
        client.recv(DEADLINE)
        client.send("fail")
        assert ended(client)[0] == 1011


def test_a_path_without_an_application_is_a_500(app: Served) -> None:
    assert refusal(app, "/nowhere", "rooms")[0] == 500
    with opened(app, "/chat", "rooms") as client:
        client.recv(DEADLINE)
        client.send("x")
        assert client.recv(DEADLINE) == "1 x", "it is among the clients no longer"


# ---- a Worker that decides itself


def test_on_websocket_connect_decides_which_are_its_own(app: Served) -> None:
    with opened(app, "/ours", "both", subprotocols=["ours"]) as client:
        assert client.subprotocol == "ours"
        assert client.response is not None
        assert client.response.headers["X-Ours"] == "yes"
        client.send("abc")
        assert client.recv(DEADLINE) == "ABC"
    with opened(app, "/echo", "both") as client:
        client.send("abc")
        assert client.recv(DEADLINE) == "abc"
    assert refusal(app, "/forbidden", "both")[0] == 403
    assert refusal(app, "/refused", "both")[0] == 403
    assert told(app, "both")


# ---- the end of the process


def test_one_that_only_waits_is_sent_away_politely(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with serve(tmp_path_factory, places.app("wsgi_websockets")) as one:
        with opened(one, "/echo") as client, opened(one, "/chat", "rooms") as idle:
            client.send("x")
            client.recv(DEADLINE)
            idle.recv(DEADLINE)
            one.run("reload")
            assert ended(client)[0] == 1012
            assert ended(idle)[0] == 1012
        assert not re.search("Traceback", one.read_log())


def test_no_other_close_frame_follows(app: Served) -> None:
    with Client(app, "pages") as client:
        client.send(handshake("GET /close HTTP/1.1"))
        client.until(b"\x88\x05\x0f\xa1bye")
        client.send(closing(4001))
        assert client.rest() == b""
        assert isinstance(client.socket, socket.socket)


def test_a_worker_class_is_not_needed(app: Served) -> None:
    done = app.run(
        "-k", "geventwebsocket.gunicorn.workers.GeventWebSocketWorker", "app:application"
    )
    assert done.returncode == 2
    assert "there are no worker classes: leave -k" in done.stderr
