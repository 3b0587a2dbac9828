"""WSGI applications, by real clients: each point of PEP 3333 once."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import places
import pytest
import requests
from instance import DEADLINE, wait_for
from serving import Client, Served, serve

GET = "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = "HEAD /{} HTTP/1.1\r\nHost: a\r\n\r\n"
OLD = "GET /{} HTTP/1.0\r\n\r\n"
POST = "POST /{} HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    source = places.app("wsgi_points")
    with serve(tmp_path_factory, source, "--bind", "http://127.0.0.1:0") as one:
        yield one


def client(app: Served) -> Client:
    return Client(app, "application")


def ask(app: Served, path: str, request: str = GET) -> str:
    """All that comes for one request, whose answer is the last of its connection, without Date."""
    with client(app) as one:
        one.send(request.format(path).replace("Host: a\r\n", "Host: a\r\nConnection: close\r\n"))
        lines = one.rest().decode("latin-1").split("\r\n")
        return "\r\n".join(line for line in lines if not line.startswith(("Date:", "Connection:")))


def story(app: Served) -> list[str]:
    """What was told since it was last asked for."""
    with client(app) as one:
        told: list[str] = json.loads(one.http(GET.format("story"))[2])
        return told


def wait_story(app: Served, *expected: str) -> None:
    found: list[str] = []
    wait_for(lambda: found.extend(story(app)) or len(found) >= len(expected), f"{expected}")
    assert found == list(expected)


PLAIN = "Content-Type: text/plain\r\n"


# ---- start_response


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("whole", f"200 OK\r\n{PLAIN}Content-Length: 5\r\n\r\nwhole"),
        ("pair", f"200 OK\r\n{PLAIN}Content-Length: 2\r\n\r\nab"),
        ("reason", f"299 Tr\xe8s bien\r\n{PLAIN}Content-Length: 1\r\n\r\nx"),
        ("bare", f"200\r\n{PLAIN}Content-Length: 1\r\n\r\nx"),
        ("replaced", f"503 Replaced\r\n{PLAIN}Content-Length: 8\r\n\r\nreplaced"),
        ("late", f"201 Created\r\n{PLAIN}Transfer-Encoding: chunked\r\n\r\n4\r\nlate\r\n0\r\n\r\n"),
        ("latin", "200 OK\r\nX: \xe9\r\nContent-Length: 1\r\n\r\nx"),
        ("changed", "200 OK\r\nX: 1\r\nContent-Length: 1\r\n\r\nx"),
        ("nothing", f"200 OK\r\n{PLAIN}Content-Length: 0\r\n\r\n"),
        ("with_length", f"200 OK\r\n{PLAIN}Content-Length: 5\r\n\r\nabcde"),
    ],
)
def test_an_answer(app: Served, path: str, answer: str) -> None:
    assert ask(app, path) == f"HTTP/1.1 {answer}"


@pytest.mark.parametrize(
    "path",
    [
        "never", "never_in_items", "twice", "raises", "raises_in_items", "leaves", "text",
        "text_in_items", "bad_status", "bad_name", "bad_value", "no_latin", "bad_hints",
        "written_text", "missing",
    ],
)  # fmt: skip
def test_an_exception_before_the_answer_is_a_500_that_tells_nothing(app: Served, path: str) -> None:
    assert ask(app, path) == (
        "HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Length: 26\r\n\r\n500 Internal Server Error\n"
    )
    assert ask(app, "whole").endswith("whole")  # the process lives on


@pytest.mark.parametrize("path", ["too_late", "raises_after"])
def test_an_exception_within_the_answer_cuts_it(app: Served, path: str) -> None:
    story(app)
    assert ask(app, path).endswith("\r\n\r\n5\r\nbegun\r\n")
    wait_story(app, f"{path} closed")


def test_what_is_written_goes_before_what_is_returned(app: Served) -> None:
    assert ask(app, "written").endswith("\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n")
    assert ask(app, "written_alone").endswith("Content-Length: 1\r\n\r\na")


def test_each_item_is_sent_at_once(app: Served) -> None:
    with client(app) as one:
        one.send(GET.format("slowly"))
        one.until(b"3\r\none\r\n")
        began = time.monotonic()
        one.until(b"3\r\ntwo\r\n0\r\n\r\n")
        assert time.monotonic() - began > 0.2
        assert one.http(GET.format("whole"))[2] == b"whole"


# ---- lengths


@pytest.mark.parametrize("path", ["long", "long_list"])
def test_content_beyond_its_length_is_not_sent(app: Served, path: str) -> None:
    with client(app) as one:
        assert len(one.http(GET.format(path))[2]) == 3
        assert one.http(GET.format("whole"))[2] == b"whole"


@pytest.mark.parametrize("path", ["short", "short_list"])
def test_content_that_is_shorter_than_its_length_ends_the_connection(
    app: Served, path: str
) -> None:
    with client(app) as one:
        one.send(GET.format(path))
        assert one.until(b"\r\n\r\n")
        assert one.rest() == b"ab"


@pytest.mark.parametrize(
    ("request_of", "path", "answer"),
    [
        (HEAD, "with_length", f"200 OK\r\n{PLAIN}Content-Length: 5\r\n\r\n"),
        (HEAD, "whole", f"200 OK\r\n{PLAIN}Content-Length: 5\r\n\r\n"),
        (HEAD, "pieces", f"200 OK\r\n{PLAIN}\r\n"),
        (HEAD, "written", f"200 OK\r\n{PLAIN}\r\n"),
        (HEAD, "file", f"200 OK\r\n{PLAIN}Content-Length: 3000000\r\n\r\n"),
        (GET, "status_204", "204 No Content\r\n\r\n"),
        (GET, "status_304", "304 Not Modified\r\nContent-Length: 3\r\n\r\n"),
    ],
)
def test_answers_without_content(app: Served, request_of: str, path: str, answer: str) -> None:
    story(app)
    assert ask(app, path, request_of) == f"HTTP/1.1 {answer}"
    if path in ("with_length", "pieces", "status_204"):
        wait_story(app, f"{path} closed")
    with client(app) as one:  # what comes next is in its place
        one.send(request_of.format(path) + GET.format("whole"))
        one.until(b"\r\n\r\n")
        assert one.answer()[2] == b"whole"


def test_an_endless_answer_to_head_ends(app: Served) -> None:
    story(app)
    with client(app) as one:
        one.send(HEAD.format("endless") + GET.format("whole"))
        one.until(b"\r\n\r\n")
        assert one.answer()[2] == b"whole"
    wait_story(app, "endless closed")


def take_all(one: socket.socket) -> None:
    with suppress(OSError):
        while one.recv(1 << 20):
            pass


@pytest.mark.parametrize("path", ["endless", "large_file"])
def test_others_have_their_turn_while_a_client_takes_all(app: Served, path: str) -> None:
    with client(app) as greedy:
        greedy.send(GET.format(path))
        reading = threading.Thread(target=take_all, args=(greedy.socket,))
        reading.start()
        with client(app) as one:
            for _ in range(20):
                assert one.http(GET.format("whole"))[2] == b"whole"
            assert reading.is_alive()
        greedy.socket.shutdown(socket.SHUT_RDWR)
        reading.join()


def test_http_1_0_is_never_chunked(app: Served) -> None:
    assert ask(app, "pieces", OLD) == f"HTTP/1.1 200 OK\r\n{PLAIN}\r\nabcde"
    keep = OLD.replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n")
    with client(app) as one:
        assert one.http(keep.format("with_length"))[2] == b"abcde"
        assert one.http(keep.format("whole"))[2] == b"whole"


# ---- fields


def test_fields_of_the_application(app: Served) -> None:
    with client(app) as one:
        one.send(GET.format("own_fields"))
        head = one.until(b"\r\n\r\n").decode()
    assert head == (
        "HTTP/1.1 200 OK\r\nDate: then\r\nServer: mine\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        "Content-Length: 1\r\n\r\n"
    )
    wait_for(lambda: "Transfer-Encoding, Keep-Alive" in app.read_log(), "a warning")


def test_an_application_may_close_the_connection(app: Served) -> None:
    with client(app) as one:
        one.send(GET.format("closing"))
        assert one.rest().endswith(b"x")


def test_early_hints(app: Served) -> None:
    with client(app) as one:
        one.send(GET.format("hints"))
        assert one.until(b"\r\n\r\n") == (
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
        )
        assert one.answer()[2] == b"x"
        one.send(GET.format("late_hints"))
        assert b"103" not in one.until(b"0\r\n\r\n")
    assert "103" not in ask(app, "hints", OLD)


# ---- clients that leave


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize("query", ["", "?begun"])
def test_a_silent_iterable_is_closed_at_once_when_the_client_leaves(
    app: Served, query: str, leave: str
) -> None:
    story(app)
    with client(app) as one:
        one.send(GET.format(f"silent{query}"))
        if query:
            one.until(b"begun\r\n")
        else:
            wait_for(lambda: app.status()["totals"]["connections"] > 0, "it is accepted")
            time.sleep(0.1)
        (one.reset if leave == "reset" else one.socket.close)()
    wait_story(app, "silent interrupted", "silent closed")


def test_an_application_can_ask_whether_the_client_has_left(app: Served) -> None:
    story(app)
    with client(app) as one:
        one.send(GET.format("waits"))
        wait_story(app, "waits False")
    wait_story(app, "waits True", "waits closed")


def test_a_client_that_takes_no_more_ends_the_iterable(app: Served) -> None:
    story(app)
    with client(app) as one:
        one.send(GET.format("much"))
        one.exactly(100_000)
    wait_story(app, "much closed")


def test_a_client_that_had_finished_sending_gets_all(app: Served) -> None:
    with client(app) as one:
        one.socket.sendall(GET.format("pieces").encode())
        one.finish()
        assert one.rest().endswith(b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n")


# ---- files


def test_a_file_is_sent_whole(app: Served) -> None:
    story(app)
    with client(app) as one:
        got = one.http(GET.format("file"))[2]
        assert hashlib.sha1(got).digest() == hashlib.sha1(b"0123456789" * 300_000).digest()
        assert one.http(GET.format("whole"))[2] == b"whole"
    wait_story(app, "file closed")


@pytest.mark.parametrize(
    ("path", "end"),
    [
        ("file_from", "Content-Length: 4\r\n\r\n3456"),
        ("file_no_file", "6\r\nmemory\r\n0\r\n\r\n"),
        ("file_pipe", "4\r\npipe\r\n0\r\n\r\n"),
        ("file_iterated", "6\r\nMEMORY\r\n0\r\n\r\n"),
        ("file_cut", f"Content-Length: 1000\r\n\r\n{'0123456789' * 10}"),
    ],
)
def test_other_files(app: Served, path: str, end: str) -> None:
    story(app)
    assert ask(app, path).endswith(end)
    if path != "file_iterated":
        wait_story(app, "file closed")


def test_the_access_log_counts_what_the_kernel_has_sent(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("log") / "access"
    options = ("--bind", "http://127.0.0.1:0", "--access-log", str(path))
    with serve(tmp_path_factory, places.app("wsgi_points"), *options) as one, client(one) as asking:
        asking.http(GET.format("file"))
        assert asking.http(GET.format("whole"))[2] == b"whole"
        wait_for(lambda: path.read_text().count("\n") >= 2, "two lines")
        first, second = path.read_text().splitlines()[:2]
    assert '"GET /file HTTP/1.1" 200 3000000' in first
    assert '"GET /whole HTTP/1.1" 200 5' in second


def test_a_file_for_a_client_that_leaves(app: Served) -> None:
    story(app)
    with client(app) as one:
        one.send(GET.format("file"))
        one.exactly(1000)
    wait_story(app, "file closed")


# ---- environ


def shown(app: Served, request: str) -> dict[str, Any]:
    with client(app) as one:
        found: dict[str, Any] = json.loads(one.http(request)[2])
        return found


def test_an_environ(app: Served) -> None:
    with client(app) as one:
        request = GET.format("shown?a=%20").replace("Host: a", "Host: a:1\r\nX-A: b\r\nX-A: c")
        found = json.loads(one.http(request)[2])
        again = json.loads(one.http(request)[2])
        port = one.port
    assert found == again  # the dict of the first request, which it has changed, is not used again
    assert found.pop("SERVER_SOFTWARE").startswith("gworker/")
    assert found == {
        "REQUEST_METHOD": "GET",
        "RAW_URI": "/shown?a=%20",
        "REQUEST_URI": "/shown?a=%20",
        "PATH_INFO": "/shown",
        "QUERY_STRING": "a=%20",
        "SCRIPT_NAME": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(app.port("application")),
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": str(port),
        "HTTP_HOST": "a:1",
        "HTTP_X_A": "b,c",
        "wsgi.version": [1, 0],
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "type": "dict",
        "poison": None,
    }
    wait_for(lambda: "wsgi.errors: a line for the log" in app.read_log(), "the line")


def test_a_proxy_that_nobody_trusts_changes_nothing_and_is_told_of_once(app: Served) -> None:
    fields = "Host: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 9.9.9.9"
    for _ in range(2):
        found = shown(app, GET.format("shown").replace("Host: a", fields))
        assert (found["wsgi.url_scheme"], found["REMOTE_ADDR"]) == ("http", "127.0.0.1")
    assert app.read_log().count("say --forwarded-allow-ips 127.0.0.1") == 1


def test_a_root_a_trusted_proxy_and_a_unix_socket(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with serve(
        tmp_path_factory, places.app("wsgi_points"), "--bind", "http://127.0.0.1:0", "-w", "2",
        "--bind", f"unix://{tmp_path_factory.mktemp('at') / 'web.sock'}",
        "--root-path", "/shop", "--forwarded-allow-ips", "127.0.0.1",
    ) as one, Client(one, "application-1") as asking:  # fmt: skip
        fields = "Host: a\r\nX-Forwarded-Proto: https"
        found = json.loads(asking.http(GET.format("shop/shown").replace("Host: a", fields))[2])
        assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("/shop", "/shown")
        assert found["RAW_URI"] == "/shop/shown"
        assert (found["wsgi.url_scheme"], found["wsgi.multiprocess"]) == ("https", True)
        with socket.socket(socket.AF_UNIX) as local:
            local.connect(one.listen["application-2"].removeprefix("unix://"))
            local.sendall(GET.format("shown").replace("Host: a", "Host: b:81").encode())
            answer = b""
            while b"}" not in answer:
                answer += local.recv(65536)
        found = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert (found["REMOTE_ADDR"], "REMOTE_PORT" in found) == ("", False)
        assert (found["SERVER_NAME"], found["SERVER_PORT"]) == ("b", "81")


# ---- bodies


@pytest.mark.parametrize("size", [0, 5, 60_000, 200_000])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_is_read_whole(app: Served, size: int, is_chunked: bool) -> None:
    content = b"a" * size
    with client(app) as one:
        for _ in range(2):
            one.send(POST.format("body", CHUNKED if is_chunked else f"Content-Length: {size}"))
            if is_chunked:
                for start in range(0, size, 30_000):
                    piece = content[start : start + 30_000]
                    one.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                one.send(b"0\r\n\r\n")
            else:
                one.send(content)
            assert one.answer()[2] == str(size).encode()


@pytest.mark.parametrize("size", [5, 60_000, 200_000])
def test_a_body_that_is_not_read_is_not_the_next_request(app: Served, size: int) -> None:
    with client(app) as one:
        one.send(POST.format("unread", f"Content-Length: {size}"))
        one.send(b"a" * size)
        fields = one.answer()[1]
        if fields.get("connection") != "close":
            assert one.http(GET.format("whole"))[2] == b"whole"


def test_the_application_is_called_when_a_small_body_is_here(app: Served) -> None:
    story(app)
    with client(app) as one:
        one.send(POST.format("body", CHUNKED) + "2\r\nab\r\n")
        time.sleep(0.2)
        assert story(app) == []
        one.send("0\r\n\r\n")
        assert one.answer()[2] == b"2"


def test_a_body_that_rests_is_read_while_it_comes(app: Served) -> None:
    with client(app) as one:
        one.send(POST.format("first", "Content-Length: 1000") + "abc")
        assert one.answer()[2] == b"abc"
    with client(app) as one:
        one.send(POST.format("body", "Content-Length: 50000") + "a" * 20_000)
        time.sleep(1.5)
        one.send("b" * 30_000)
        assert one.answer()[2] == b"50000"
        assert one.http(GET.format("whole"))[2] == b"whole"


def test_a_long_body_is_read_while_it_comes(app: Served) -> None:
    with client(app) as one:
        one.send(POST.format("first", "Content-Length: 100000") + "abc")
        assert one.answer()[2] == b"abc"


@pytest.mark.parametrize("how", ["Content-Length: 100000", CHUNKED])
def test_a_client_that_leaves_within_its_body(app: Served, how: str) -> None:
    story(app)
    sent = b"" if how != CHUNKED else b"%x\r\n" % 100_000
    with client(app) as one:
        one.send(POST.format("broken", how).encode() + sent + b"a" * 70_000)
        if how != CHUNKED:
            wait_story(app, "broken begins")
    if how != CHUNKED:
        wait_story(app, "broken True")
    else:  # it is not called: its body is not whole
        assert story(app) == []


def test_bad_chunks_are_a_400(app: Served) -> None:
    with client(app) as one:
        one.send(POST.format("body", CHUNKED) + "zz\r\nabc\r\n0\r\n\r\n")
        assert one.answer()[0] == 400


def test_a_client_that_asks_first_may_be_refused(app: Served) -> None:
    ask_first = "Content-Length: 5\r\nExpect: 100-continue"
    with client(app) as one:
        one.send(POST.format("refuse", ask_first))
        assert one.answer()[0] == 413
    with client(app) as one:
        one.send(POST.format("body", ask_first))
        assert one.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        one.send("abcde")
        assert one.answer()[2] == b"5"


# ---- frameworks


@pytest.fixture(scope="module")
def frameworks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, places.app("wsgi_frameworks")) as one:
        yield one


@pytest.mark.parametrize(
    "name", ["flask", "validated", "bottle", "falcon", "pyramid", "whitenoise"]
)
def test_frameworks_run_unchanged(frameworks: Served, name: str) -> None:
    url = f"http://127.0.0.1:{frameworks.port(name)}"
    with requests.Session() as session:
        for _ in range(2):
            assert session.get(url, timeout=DEADLINE).text == "hello"
            for body in (b"abc", iter([b"a", b"bc"])):
                answer = session.post(f"{url}/size", data=body, timeout=DEADLINE)
                assert answer.json() == {"size": 3}
            long = session.post(f"{url}/size", data=b"a" * 200_000, timeout=DEADLINE)
            assert long.json() == {"size": 200_000}
            assert session.get(f"{url}/stream", timeout=DEADLINE).text == "one\ntwo\n"
            got = session.get(f"{url}/file", timeout=DEADLINE).content
            assert got == (frameworks.directory / "app.py").read_bytes()
            head = session.head(f"{url}/file", timeout=DEADLINE)
            assert (head.status_code, head.content) in ((200, b""), (405, b""), (404, b""))
            assert session.get(f"{url}/nothing", timeout=DEADLINE).status_code == 404


def test_static_files_of_whitenoise(frameworks: Served) -> None:
    url = f"http://127.0.0.1:{frameworks.port('whitenoise')}/app.py"
    with requests.Session() as session:
        got = session.get(url, timeout=DEADLINE)
        assert got.content == (frameworks.directory / "app.py").read_bytes()
        fields = {"If-Modified-Since": got.headers["last-modified"]}
        assert session.get(url, headers=fields, timeout=DEADLINE).status_code == 304
        part = session.get(url, headers={"Range": "bytes=3-5"}, timeout=DEADLINE)
        assert part.content == got.content[3:6]


def test_a_check_says_what_is_served(frameworks: Served) -> None:
    said = json.loads(frameworks.run("check", "app", "--json").stdout)["workers"]
    assert {each["worker"]: each["serves"] for each in said} == {
        "flask": "a WSGI application (flask.app.Flask)",
        "validated": "a WSGI application (wsgiref.validate.validator.<locals>.lint_app)",
        "bottle": "a WSGI application (bottle.Bottle)",
        "falcon": "a WSGI application (falcon.app.App)",
        "pyramid": "a WSGI application (pyramid.router.Router)",
        "whitenoise": "a WSGI application (whitenoise.base.WhiteNoise)",
    }
    ran = frameworks.run("check", "app:of_pyramid()")
    assert "a WSGI application (pyramid.router.Router)" in ran.stdout
    ran = frameworks.run("check", "app:of_pyramid", "--app", "wsgi")
    assert ran.returncode == 1
    assert "is it a factory? Call it: NAME()" in ran.stderr
