"""Worker.observe: what observers are told of callbacks and requests, and that they do no harm."""

from __future__ import annotations

from collections.abc import Iterator

import places
import pytest
from instance import DEADLINE, wait_for
from serving import Client, Served, serve
from websockets.sync.client import connect

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, places.app("observed")) as one:
        yield one


def get(path: str, fields: str = "") -> str:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"


ANSWERED = ("before on_message", "after on_message NoneType")


def test_a_request_from_before_its_handler_to_after_its_answer(served: Served) -> None:
    with Client(served, "web") as client:
        assert client.http(get("/"))[2] == b"x" * 10
        client.wait_story("begin /", "late", *ANSWERED, "end / 200 10")
    served.wait_log("exception in the observer")
    served.wait_log("SystemExit: an observer that fails")


def test_requests_that_come_at_once_are_told_of_one_by_one(served: Served) -> None:
    with Client(served, "web") as client:
        client.send(get("/1") + get("/2"))
        assert client.answer()[0] == client.answer()[0] == 200
        events = client.wait_event("end /2 200 10")
        assert events.index("begin /1") < events.index("begin /2")
        assert events.count("end /1 200 10") == events.count("end /2 200 10") == 1


def test_what_a_callback_raises_is_told_and_handled_as_ever(served: Served) -> None:
    with Client(served, "web") as client:
        status, _, body = client.http(get("/boom"))
        assert status == 500
        client.wait_event(f"end /boom 500 {len(body)}")
        client.wait_event("after on_message ValueError")
    with Client(served, "web") as client:
        assert client.http(get("/slow"))[0] == 504
        client.wait_event("after on_message HandlerTimeout")


def test_context_variables_of_an_observer_are_the_callbacks(served: Served) -> None:
    with Client(served, "web") as client:
        assert client.http(get("/trace"))[2] == b"in on_message"


def test_an_answer_in_pieces_is_told_at_its_end(served: Served) -> None:
    with Client(served, "web") as client:
        client.send(get("/stream", "Connection: close\r\n"))
        size = len(client.rest().partition(b"\r\n\r\n")[2])
        client.wait_story("begin /stream", "late", *ANSWERED, f"end /stream 200 {size}")


def test_a_client_that_has_gone(served: Served) -> None:
    with Client(served, "web") as client:
        client.send(get("/leave"))
        client.wait_event("before on_message")
        client.reset()
        wait_for(lambda: "end /leave" in " ".join(served.events(client.port)), "its end", 10)
        assert served.events(client.port)[-1] == "end /leave 200 0 aborted"


def test_a_websocket_has_callbacks_and_no_requests(served: Served) -> None:
    client = served.fresh_socket()
    client.connect(("127.0.0.1", served.port("ws")))
    port = client.getsockname()[1]
    with connect("ws://127.0.0.1/", sock=client) as peer:
        peer.send("hello")
        assert peer.recv(DEADLINE) == "hello"
    served.wait_story(
        port,
        "before on_websocket_connect", "after on_websocket_connect NoneType",
        *ANSWERED,
        "before on_close", "after on_close ValueError",
    )  # fmt: skip


def test_a_connection_handler_is_one_call_of_many_requests(served: Served) -> None:
    with Client(served, "loop") as client:
        assert client.http(get("/1"))[2] == b"/1"
        assert client.http(get("/2"))[2] == b"/2"
    served.wait_event(client.port, "after handler NoneType")
    events = served.wait_event(client.port, "end /2 200 2")
    assert events[0] == "before handler"
    assert [each for each in events if each.startswith("begin")] == ["begin /1", "begin /2"]


def test_an_application_of_wsgi(served: Served) -> None:
    with Client(served, "wsgi") as client:
        assert client.http(get("/x"))[0] == 404
        client.wait_story("begin /x", *ANSWERED, "end /x 404 2")


def test_callbacks_of_the_process_and_an_observer_of_all_workers(served: Served) -> None:
    events = served.wait_event("process", "after on_worker_start NoneType")
    assert events[0] == "before on_worker_start"
    with Client(served, "plain") as client:
        client.send("hello\n")
        assert client.line() == "hello"
        client.wait_story(*ANSWERED)
