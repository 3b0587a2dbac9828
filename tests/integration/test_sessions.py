"""request.session: a signed cookie, from one request to the next; nothing shows its key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path

import places
import pytest
from instance import DEADLINE
from serving import Client, Served, serve
from websockets.sync.client import connect

pytestmark = pytest.mark.timeout(120)

KEY = "a-very-secret-key-of-tests"
OTHER = "another-secret-key-of-tests"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    source = places.app("http_sessions")
    with serve(tmp_path_factory, source, "--secret-key", KEY) as one:
        yield one


class Browser:
    """A client that keeps cookies, on one connection."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.cookie = ""
        self.given = ""  # the last Set-Cookie

    def get(self, path: str, fields: str = "") -> tuple[int, bytes]:
        cookie = f"Cookie: session={self.cookie}\r\n" if self.cookie else ""
        self.client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n{cookie}{fields}\r\n")
        status, headers, body = self.client.answer()
        self.given = headers.get("set-cookie", "")
        if self.given.startswith("session="):
            self.cookie = SimpleCookie(self.given)["session"].value
        return status, body

    def session(self, path: str = "/", fields: str = "") -> object:
        status, body = self.get(path, fields)
        assert status == 200, body
        return json.loads(body)


def reloaded(one: Served) -> object:
    """Why a reload was refused; None: it was not."""
    one.run("reload")
    return one.status()["last_reload"]["error"]


@pytest.fixture
def browser(served: Served) -> Iterator[Browser]:
    with Client(served, "web") as client:
        yield Browser(client)


def test_what_it_holds_comes_back(browser: Browser) -> None:
    assert browser.session() == {"n": 1}
    assert browser.session() == {"n": 2}
    assert browser.given.endswith("; Max-Age=1209600; Path=/; SameSite=Lax; HttpOnly")
    assert browser.session("/nested") == {"n": 2, "list": [1]}
    assert browser.session("/nested") == {"n": 2, "list": [1, 1]}
    assert browser.session("/plain") == {"n": 2, "list": [1, 1]}
    assert browser.given == ""  # unchanged


def test_an_empty_one_is_no_cookie(browser: Browser) -> None:
    assert browser.session("/plain") == {}
    assert browser.given == ""
    browser.session()
    assert browser.session("/clear") == {}
    assert browser.given.startswith("session=; Max-Age=0;")


def test_what_was_changed_on_the_way_is_an_empty_session(browser: Browser) -> None:
    browser.session()
    good = browser.cookie
    # not the last character: two of its bits say nothing
    changed = good[:-2] + ("A" if good[-2] != "A" else "B") + good[-1]
    for bad in (changed, "x" + good, good[:10], "a.b.c"):
        browser.cookie = bad
        assert browser.session("/plain") == {}
        assert browser.given.startswith("session=; Max-Age=0;")
    browser.cookie = good
    assert browser.session() == {"n": 2}


def test_answers_of_every_kind_carry_it(browser: Browser) -> None:
    assert browser.get("/later") == (200, b"later")
    assert browser.session("/plain") == {"later": True}
    browser.client.send(f"HEAD /x HTTP/1.1\r\nHost: a\r\nCookie: session={browser.cookie}\r\n\r\n")
    assert "set-cookie" in browser.client.answer(head_only=True)[1]
    browser.client.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
    head = browser.client.until(b"0\r\n\r\n")
    assert b"Set-Cookie: session=" in head
    browser.client.send("GET /headers HTTP/1.1\r\nHost: a\r\n\r\n")
    head = browser.client.until(b"\r\n\r\nx")
    assert head.count(b"Set-Cookie: ") == 2
    assert b"\r\nVary: Cookie\r\n" in head


def test_it_is_secure_but_for_programs_on_this_machine(served: Served, browser: Browser) -> None:
    browser.session()
    assert "Secure" not in browser.given
    browser.session("/", "X-Forwarded-For: 192.0.2.1\r\n")
    assert browser.given.endswith("; Secure; HttpOnly")
    served.wait_log("its cookie is Secure: browsers drop it")


@pytest.mark.parametrize(
    ("path", "message"), [("/large", "bytes as a cookie"), ("/wrong", "not JSON serializable")]
)
def test_what_is_no_session_is_an_error_of_the_handler(
    served: Served, browser: Browser, path: str, message: str
) -> None:
    assert browser.get(path)[0] == 500
    served.wait_log(message)
    assert browser.given == ""


def test_a_websocket_reads_it(served: Served, browser: Browser) -> None:
    browser.session()
    with connect(
        f"ws://127.0.0.1:{served.port('ws')}/",
        additional_headers={"Cookie": f"session={browser.cookie}"},
    ) as client:
        client.send("?")
        assert client.recv(DEADLINE) == "1 1"


def test_keys_are_rotated_by_a_file_and_a_reload(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# of tests\n{KEY}\n")
    with (
        serve(tmp_path_factory, places.app("http_sessions"), "--secret-key", str(file)) as one,
        Client(one, "web") as client,
    ):
        browser = Browser(client)
        assert browser.session() == {"n": 1}
        before = browser.cookie
        file.write_text(f"{OTHER}\n{KEY}\n")
        assert reloaded(one) is None
        with Client(one, "web") as again:
            browser.client = again
            assert browser.session() == {"n": 2}
        after = browser.cookie
        file.write_text(f"{OTHER}\n")
        assert reloaded(one) is None
        with Client(one, "web") as again:
            browser.client, browser.cookie = again, before
            assert browser.session("/plain") == {}
            browser.cookie = after
            assert browser.session() == {"n": 3}
        file.write_text("short\n")
        assert "expected a key of 16" in str(reloaded(one))


def test_nothing_shows_the_key(served: Served) -> None:
    shown = [served.run("status", "--settings").stdout, served.run("status", "--json").stdout]
    for arguments in (["--print-config"], ["check", "app"]):
        done = served.run(*arguments, "--secret-key", KEY)
        assert done.returncode == 0, done.stderr
        shown += [done.stdout, done.stderr]
    refused = served.run("check", "app", "--secret-key", "tooshort")
    assert refused.returncode == 2
    assert "'***' is not valid, expected a key of 16 printable characters" in refused.stderr
    assert 'secret-key = ["***"]' in shown[0]
    assert not any(KEY in each for each in [*shown, served.read_log()])


def test_without_a_key_there_is_no_session(tmp_path_factory: pytest.TempPathFactory) -> None:
    with serve(tmp_path_factory, places.app("http_sessions")) as one, Client(one, "web") as client:
        assert Browser(client).get("/")[0] == 500
        one.wait_log("request.session needs a key that signs it: --secret-key KEY or FILE")
