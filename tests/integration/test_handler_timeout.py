"""--handler-timeout: what waits for too long is ended where it stands, and nothing else is."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import places
import pytest
from instance import DEADLINE, wait_for
from serving import Client, Served, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

pytestmark = pytest.mark.timeout(120)

LIMIT = 0.4  # of the app


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, places.app("slow_handlers")) as one:
        yield one


def get(path: str, fields: str = "") -> str:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"


def exceptions(served: Served, name: str) -> int:
    return int(served.row(name)["exceptions"])


def test_a_request_gets_504_and_the_handler_cleans_up(served: Served) -> None:
    before, pid = exceptions(served, "web"), served.row("web")["pid"]
    with Client(served, "web") as client:
        began = time.monotonic()
        status, fields, body = client.http(get("/slow"))
        assert (status, fields["connection"]) == (504, "close")
        assert body == b"504 Gateway Timeout: the handler has not answered in time\n"
        assert LIMIT <= time.monotonic() - began < LIMIT + 5
        assert client.rest() == b""
        client.wait_story("cleaned")  # `except Exception` does not catch it
    wait_for(lambda: exceptions(served, "web") == before + 1, "one exception")
    assert served.row("web")["pid"] == pid
    served.wait_log("on_message has run for 0.4 s (handler_timeout), and is ended where it stands")
    assert "time.sleep(30)" in served.read_log()
    with Client(served, "web") as client:
        assert client.http(get("/"))[2] == b"done"


def test_a_request_of_http_1_0_and_one_for_the_head(served: Served) -> None:
    with Client(served, "web") as client:
        client.send("HEAD /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.rest().startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
    with Client(served, "web") as client:
        client.send("GET /slow HTTP/1.0\r\n\r\n")
        assert b"504 Gateway Timeout" in client.rest()


def test_each_request_of_a_connection_has_its_own_time(served: Served) -> None:
    with Client(served, "web") as client:
        for _ in range(4):  # of which each takes three quarters of it
            assert client.http(get("/") + get("/"))[2] == b"done"
            assert client.answer()[2] == b"done"
        client.send(get("/slow"))
        assert client.answer()[0] == 504


def test_the_waits_of_one_handler_are_added(served: Served) -> None:
    with Client(served, "web") as client:
        assert client.http(get("/messages"))[0] == 504


def test_a_streamed_answer_is_not_counted(served: Served) -> None:
    with Client(served, "web") as client:
        client.send(get("/streamed", "Connection: close\r\n"))
        assert client.rest().endswith(b"0\r\n\r\n")


def test_an_answer_that_has_begun_is_cut(served: Served) -> None:
    with Client(served, "web") as client:
        client.send(get("/begun"))
        assert not client.rest().endswith(b"0\r\n\r\n")


def test_the_time_that_a_client_takes_for_a_body_is_not_counted(served: Served) -> None:
    with Client(served, "web") as client:
        client.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n")
        for _ in range(4):
            time.sleep(LIMIT / 2)
            client.send(b"x" * 1000)
        assert client.answer()[2] == b"4000"


def test_a_handler_that_goes_on_is_ended_again(served: Served) -> None:
    with Client(served, "web") as client:
        assert client.http(get("/stubborn"))[2] == b"done"
        client.wait_story(*[f"after {LIMIT}"] * 3)


def test_a_websocket_is_closed_with_1011(served: Served) -> None:
    url = f"ws://127.0.0.1:{served.port('ws')}/"
    with connect(url) as client:
        client.send("quick")
        assert client.recv(DEADLINE) == "quick"
        client.send("slow")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(DEADLINE)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011
    with pytest.raises(InvalidStatus) as refused:
        connect(url + "slow")
    assert refused.value.response.status_code == 504


def test_others_are_closed(served: Served) -> None:
    with Client(served, "text") as client:
        client.send("quick\n")
        assert client.line() == "quick"
        client.send("slow\n")
        assert client.rest() == b""
        client.wait_story("closed")


def test_a_connection_handler_has_it_from_one_recv_to_the_next(served: Served) -> None:
    for name in ("loop", "old"):
        with Client(served, name) as client:
            for _ in range(3):
                time.sleep(LIMIT * 1.5)  # in which it waits for its peer
                client.send(f"{LIMIT / 2}\n")
                assert client.line() == str(LIMIT / 2)
            client.send("30\n")
            assert client.rest() == b"", name


def test_a_datagram_that_takes_too_long_costs_nothing_else(served: Served) -> None:
    before = exceptions(served, "udp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(DEADLINE)
        client.connect(("127.0.0.1", served.port("udp")))
        client.send(b"slow")
        wait_for(lambda: exceptions(served, "udp") == before + 1, "it is ended")
        client.send(b"quick")
        assert client.recv(100) == b"quick"


def test_an_application_of_wsgi(served: Served) -> None:
    with Client(served, "wsgi") as client:
        assert client.http(get("/"))[2] == b"done"
        client.send(get("/streamed", "Connection: close\r\n"))
        assert client.rest().endswith(b"0\r\n\r\n")
    with Client(served, "wsgi") as client:
        assert client.http(get("/slow"))[0] == 504
        assert client.rest() == b""
        assert client.events() == []


def test_waiting_until_the_peer_has_taken_all_is_not_counted(served: Served) -> None:
    with Client(served, "full", receive_buffer=65536) as client:
        client.send("go")
        taken = 0
        while data := client.socket.recv(1 << 18):
            taken += len(data)
            time.sleep(LIMIT / 40)
        assert taken == 16_000_000


def test_a_callback_may_have_a_limit_of_its_own(served: Served) -> None:
    with Client(served, "own") as client:
        client.send("quick\n")
        assert client.line() == "quick"
        client.send("theirs\n")  # this connection's from now on: no limit
        assert client.line() == "theirs"
        client.send(f"{LIMIT * 2}\n")
        assert client.line() == f"{LIMIT * 2}"
    with Client(served, "own") as client:
        client.send("30\n")
        assert client.rest() == b""


def test_the_setting_is_over_the_argument_and_off_by_default(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    source = places.app("slow_handlers")
    with serve(tmp_path_factory, source, "--handler-timeout", "0") as one, Client(one, "web") as c:
        assert c.http(get("/messages"))[2] == b"done"
