"""What an HTTP handler returns is its answer, and what becomes of an answer when the client leaves
before it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import places
import pytest
from instance import wait_for
from serving import Client, Served, serve

APP = places.app("answers")

GET = "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n"
POST = "POST /{} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNANSWERED_SECONDS", "0.4")
        with serve(tmp_path_factory, APP) as one:
            yield one


def get(app: Served, path: str) -> tuple[int, dict[str, str], bytes]:
    with Client(app, "web") as client:
        return client.http(GET.format(path))


def stories(app: Served) -> list[str]:
    told: list[str] = json.loads(get(app, "stories")[2])
    return told


def rows(app: Served, name: str = "web") -> list[dict[str, object]]:
    """What `gworker connections` lists of one Worker."""
    ran = app.run("connections", "--json", "--worker", name)
    listed: list[dict[str, object]] = json.loads(ran.stdout)
    return listed


# ---- answers by return


@pytest.mark.parametrize(
    ("path", "status", "kind", "body"),
    [
        ("str", 200, "text/html; charset=utf-8", b"<p>text</p>"),
        ("bytes", 200, "application/octet-stream", b"octets"),
        ("response", 201, "text/html; charset=utf-8", b"made"),
        ("dict", 200, "application/json", '{"a": [1, null, "é"]}'.encode()),
        ("list", 200, "application/json", b'[{"b": 2}]'),
        ("empty", 200, "application/json", b"{}"),
    ],
)
def test_what_a_handler_returns_is_its_answer(
    app: Served, path: str, status: int, kind: str, body: bytes
) -> None:
    with Client(app, "web") as client:
        for _ in range(2):  # and the connection goes on
            assert client.http(GET.format(path))[::2] == (status, body)
        assert client.http(GET.format(path))[1]["content-type"] == kind


def test_head_gets_what_is_returned_without_its_body(app: Served) -> None:
    with Client(app, "web") as client:
        client.send("HEAD /dict HTTP/1.1\r\nHost: a\r\n\r\n")
        status, fields, _ = client.answer(head_only=True)
        assert (status, fields["content-length"]) == (200, "22")
        assert client.http(GET.format("list"))[2] == b'[{"b": 2}]'


def test_a_stream_that_is_returned_is_sent(app: Served) -> None:
    with Client(app, "web") as client:
        client.send(GET.format("stream"))
        assert client.until(b"0\r\n\r\n").endswith(b"\r\n4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n")
        assert client.http(GET.format("str"))[0] == 200


@pytest.mark.parametrize("size", [10, 5000], ids=["read before", "streamed"])
def test_the_answer_to_a_body_is_returned(app: Served, size: int) -> None:
    with Client(app, "web") as client:
        for _ in range(2):
            assert client.http(POST.format("echo", size) + "x" * size)[2] == b"x" * size


@pytest.mark.parametrize(
    ("path", "kind"), [("int", "int"), ("tuple", "tuple"), ("object", "SimpleNamespace")]
)
def test_another_type_is_a_500_that_names_it_in_the_log(app: Served, path: str, kind: str) -> None:
    status, fields, body = get(app, path)
    assert (status, fields["connection"]) == (500, "close")
    assert kind.encode() not in body
    app.wait_log(f"on_message (answer) has returned {kind}, no answer: the http protocol sends")


def test_what_json_cannot_say_is_a_500(app: Served) -> None:
    assert get(app, "unserializable")[0] == 500
    app.wait_log(
        "has returned dict, no answer: Object of type SimpleNamespace is not JSON serializable"
    )


def test_a_value_after_an_answer_is_logged_and_ignored(app: Served) -> None:
    with Client(app, "web") as client:
        assert client.http(GET.format("twice"))[2] == b"first"
        assert client.http(GET.format("str"))[2] == b"<p>text</p>"
    app.wait_log("on_message (answer) has returned str after its answer")


@pytest.mark.parametrize("size", [0, 5000], ids=["plain", "streamed"])
def test_a_value_after_an_answer_is_not_the_answer_to_the_next_request(
    app: Served, size: int
) -> None:
    with Client(app, "web") as client:
        assert client.http(GET.format("twice_with_a_request_between"))[2] == b"first"
        assert client.http(POST.format("echo", size) + "x" * size)[2] == b"x" * size


def test_a_refusal_after_an_answer_does_not_refuse_the_next_request(app: Served) -> None:
    with Client(app, "web") as client:
        assert client.http(GET.format("refused_with_a_request_between"))[2] == b"first"
        status, _, body = client.http(GET.format("str"))
        assert (status, b"a word" in body) == (500, False)
    app.wait_log("exception in on_message")
    app.wait_log("a word about the first one")


def test_a_bool_is_no_answer(app: Served) -> None:
    with Client(app, "web") as client:
        assert client.http(GET.format("sent"))[2] == b"sent, and True is returned"
        assert client.http(GET.format("sent"))[0] == 200
    assert "has returned bool" not in app.read_log()


def test_other_protocols_ignore_what_is_returned(app: Served) -> None:
    with Client(app, "text") as client:
        for word in ("a", "b"):
            client.send(f"{word}\n")
            assert client.line() == f"sent {word}"


# ---- the peer leaves


def test_long_polls_whose_clients_leave_are_closed(app: Served) -> None:
    with ExitStack() as stack:
        polls = [stack.enter_context(Client(app, "web")) for _ in range(30)]
        for poll in polls:
            poll.send(GET.format("park"))
        wait_for(lambda: len(rows(app)) == 30, "30 long polls")
        wait_for(lambda: app.row("web")["requests"] >= 30, "all of them asked")
    wait_for(lambda: rows(app) == [], "none is shown as established")
    closed = stories(app)
    assert all(f"closed {poll.port}" in closed for poll in polls), "on_close is called for each"
    assert json.loads(get(app, "release")[2]) == [False] * 30, "and send refuses"


def test_a_client_that_half_closes_after_the_handler_has_returned_is_closed(app: Served) -> None:
    with Client(app, "web") as client:
        client.send(GET.format("park_until_sent"))
        wait_for(lambda: len(rows(app)) == 1, "it is there")
        client.finish()
        assert client.rest() == b""
    wait_for(
        lambda: "send=False status=closed" in stories(app), "a handler that answers later is told"
    )


def test_a_client_that_has_sent_more_than_one_request_is_seen_to_leave(app: Served) -> None:
    with Client(app, "web") as client:
        client.send(GET.format("park"))
        wait_for(lambda: len(rows(app)) == 1, "it is there")
        client.send(GET.format("str") * 3)
        wait_for(lambda: rows(app)[0]["recv_queue"] != 0, "what it sends is read")
        client.send(GET.format("str"))
    wait_for(lambda: rows(app) == [], "it is gone")


def test_a_handler_that_runs_still_answers_a_half_closed_client(app: Served) -> None:
    with Client(app, "web") as client:
        client.send(GET.format("slow"))
        client.finish()  # as nc(1) does when its input ends
        assert client.answer()[2] == b"peer_closed=True"
        assert client.rest() == b""


def test_the_requests_before_a_half_close_are_all_answered(app: Served) -> None:
    with Client(app, "web") as client:
        client.send(GET.format("str") * 2 + GET.format("slow"))
        client.finish()
        assert [client.answer()[2] for _ in range(3)] == [
            b"<p>text</p>",
            b"<p>text</p>",
            b"peer_closed=True",
        ]
        assert client.rest() == b""


def test_a_connection_handler_that_owes_an_answer_hears_of_the_end(app: Served) -> None:
    with Client(app, "one_by_one") as client:
        assert client.http(GET.format(""))[2] == b"first"
        client.send(GET.format(""))
    wait_for(lambda: rows(app, "one_by_one") == [], "recv() returns None, and the handler ends")


def test_stop_is_quick_when_the_clients_of_long_polls_have_left(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with serve(tmp_path_factory, APP) as one:
        with ExitStack() as stack:
            for _ in range(30):
                stack.enter_context(Client(one, "web")).send(GET.format("park"))
            one.counted("web", requests=30)
        assert one.run("stop", timeout=10).returncode == 0


def test_a_reload_loses_no_answer_that_a_timer_sends(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with serve(tmp_path_factory, APP) as one, Client(one, "web") as client:
        client.send(GET.format("in_time"))
        one.counted("web", requests=1)
        assert one.run("reload").returncode == 0
        assert client.answer()[2] == b"from a timer"


# ---- handlers that forget


def warnings(app: Served) -> list[str]:
    return [
        line for line in app.read_log().splitlines() if "has returned without an answer" in line
    ]


def test_one_warning_for_a_handler_that_neither_answers_nor_keeps_its_connection(
    app: Served,
) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(Client(app, "forgetful")).send(GET.format("lost"))
        app.wait_log("on_message (forget) has returned without an answer 0.4 s ago")
        stack.enter_context(Client(app, "forgetful")).send(GET.format("lost"))
        with Client(app, "spawning") as client:  # takes longer than the next warning would
            assert client.http(GET.format(""))[2] == b"late"
    assert len([line for line in warnings(app) if "(forget)" in line]) == 1


def test_a_handler_that_forgets_an_upload_is_warned_of(app: Served) -> None:
    with Client(app, "unread") as client:
        client.send(POST.format("upload", 200) + "x" * 150)
        app.wait_log("on_message (forget_upload) has returned without an answer 0.4 s ago")


def test_no_warning_for_a_handler_that_keeps_its_connection(app: Served) -> None:
    with Client(app, "patient") as waiting, Client(app, "spawning") as late:
        waiting.send(GET.format(""))
        assert late.http(GET.format(""))[2] == b"late"
        assert not [line for line in warnings(app) if "(keep)" in line or "(spawn)" in line]
