"""What a connection does within one exchange of HTTP, and with what that was upgraded to."""

from __future__ import annotations

import re
from typing import Any

import gevent
import pytest
from gevent.event import Event
from served import Far, Served, until
from websocket_bytes import frame, handshake

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
TEXT, PING = 0x81, 0x89


def heard(far: Far, end: bytes) -> bytes:
    """What has come, once that ends with `end`, without the date."""
    until(lambda: far.read().endswith(end))
    data, far.got = far.got, b""
    return re.sub(rb"Date: [A-Z][^\r]*\r\n", b"", data)


# ---- answers


def test_a_reason_phrase(served: Served) -> None:
    response = served.loaded.http.Response("x", 404, reason="Gone fishing")
    far = served.connect("http", on_message=lambda connection, _: response)
    for _ in range(2):
        far.send(GET)
        assert heard(far, b"x").startswith(b"HTTP/1.1 404 Gone fishing\r\n")


# ---- informational answers


def test_informational_answers_come_before_the_final_one(served: Served) -> None:
    told: list[Any] = []

    def answer(connection: Any, request: Any) -> None:
        told.append(connection.send_informational(103, [("Link", "</a>"), ("Link", "</b>")]))
        told.append(connection.send_informational(102))
        connection.send("x")
        told.append(connection.send_informational(103))

    far = served.connect("http", on_message=answer)
    far.send(GET)
    data = heard(far, b"x")
    assert told == [True, True, False]
    first, second, last = data.split(b"HTTP/1.1 ")[1:]
    assert first == b"103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n"
    assert second == b"102 Processing\r\n\r\n"
    assert last.startswith(b"200 OK\r\n")


def test_a_client_of_http_1_0_gets_none(served: Served) -> None:
    told: list[Any] = []

    def answer(connection: Any, request: Any) -> str:
        told.append(connection.send_informational(103))
        return "x"

    far = served.connect("http", on_message=answer)
    far.send(b"GET / HTTP/1.0\r\n\r\n")
    assert heard(far, b"x").startswith(b"HTTP/1.1 200 ")
    assert told == [False]


@pytest.mark.parametrize("status", [100, 101, 200, 99, "103", None])
def test_what_is_no_informational_status(served: Served, status: Any) -> None:
    far = served.connect("http")
    with pytest.raises(ValueError, match="informational status"):
        far.connection.send_informational(status)


@pytest.mark.parametrize("field", [("a", "b\r\nc: d"), ("a b", "c")])
def test_no_informational_field_ends_its_line(served: Served, field: Any) -> None:
    far = served.connect("http")
    with pytest.raises(ValueError, match="header"):
        far.connection.send_informational(103, [field])


def test_none_is_sent_where_nothing_is_asked_or_nobody_is_there(served: Served) -> None:
    far = served.connect("http")
    assert far.connection.send_informational(103) is False
    far.connection.destroy()
    assert far.connection.send_informational(103) is False
    with pytest.raises(RuntimeError, match="tcp"):
        served.connect("tcp").connection.send_informational(103)


# ---- upgrades


def test_an_upgrade_is_effective_at_once(served: Served) -> None:
    told: list[Any] = []

    def answer(connection: Any, request: Any) -> None:
        request.upgrade(on_message=lambda c, message: told.append(message))
        told.append((connection.protocol, connection.request is request, connection.ping(b"p")))
        told.append(connection.send("first"))
        gevent.sleep(0.01)
        told.append(connection.send(b"second"))

    far = served.connect("http", on_message=answer)
    far.send(handshake() + frame(TEXT, b"early"))
    head, _, frames = heard(far, b"second").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert frames == b"\x89\x01p" + b"\x81\x05first" + b"\x82\x06second"
    far.send(frame(TEXT, b"late"))
    until(lambda: "late" in told)
    assert told == [("websocket", True, True), True, True, "early", "late"]


def test_the_101_leaves_while_the_handler_goes_on(served: Served) -> None:
    event = Event()

    def answer(connection: Any, request: Any) -> None:
        request.upgrade()
        event.wait()

    far = served.connect("http", on_message=answer)
    far.send(handshake())
    assert heard(far, b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    event.set()


def test_an_error_behind_an_upgrade_is_told_by_close_frame(served: Served) -> None:
    def answer(connection: Any, request: Any) -> None:
        request.upgrade()
        raise ZeroDivisionError

    far = served.connect("http", on_message=answer)
    far.send(handshake())
    assert heard(far, b"\x88\x02\x03\xf3").startswith(b"HTTP/1.1 101 ")


# ---- pings


def open_socket(served: Served) -> Far:
    far = served.connect("websocket")
    far.send(handshake())
    heard(far, b"\r\n\r\n")
    return far


@pytest.mark.parametrize("size", [0, 1, 125])
def test_a_ping_carries_what_it_is_given(served: Served, size: int) -> None:
    far = open_socket(served)
    assert far.connection.ping(b"x" * size)
    assert heard(far, b"x" * size) == bytes([PING, size]) + b"x" * size


def test_a_ping_that_is_too_long(served: Served) -> None:
    with pytest.raises(ValueError, match="125"):
        open_socket(served).connection.ping(b"x" * 126)


def test_nobody_is_pinged_before_it_is_open_or_after_it_has_gone(served: Served) -> None:
    far = served.connect("websocket")
    assert far.connection.ping() is False
    far = open_socket(served)
    far.connection.close()
    assert far.connection.ping() is False
    far.connection.destroy()
    assert far.connection.ping() is False


def test_only_websockets_have_pings(served: Served) -> None:
    with pytest.raises(RuntimeError, match="the text protocol has no pings"):
        served.connect("text").connection.ping()
