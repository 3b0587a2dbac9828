"""Sessions: what their cookie holds, when one is sent, and what is not believed."""

from __future__ import annotations

from typing import Any

import pytest
from itsdangerous import TimestampSigner

from gworker.http.forwarded import Origin
from gworker.http.request import Request
from gworker.http.session import Session, is_secure

KEY, OTHER = "0123456789abcdef", "fedcba9876543210"


def request(cookie: str = "", fields: str = "", ip: str = "127.0.0.1", scheme: str = "http") -> Any:
    lines = f"Cookie: session={cookie}\r\n" if cookie else ""
    head = f"GET / HTTP/1.1\r\nHost: a\r\n{lines}{fields}\r\n"
    return Request(head.encode(), origin=Origin((ip, 1), None, scheme))


def cookie_of(session: Session) -> str:
    """The value in its Set-Cookie; "" without one."""
    _, found, rest = session.fields().decode().partition("Set-Cookie: session=")
    return rest.partition(";")[0] if found else ""


def session(cookie: str = "", *keys: str) -> Session:
    return Session(request(cookie), keys or (KEY,))


@pytest.fixture
def aged(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`aged(seconds)`: what is signed from then on is so old."""
    now = TimestampSigner.get_timestamp

    def age(seconds: int) -> None:
        monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda self: now(self) - seconds)

    return age


def test_it_comes_back_as_it_was() -> None:
    first = session()
    first.update(name="Ådne", list=[1, {"a": None}])
    assert session(cookie_of(first)) == {"name": "Ådne", "list": [1, {"a": None}]}


def test_one_that_is_unchanged_is_not_sent_again() -> None:
    first = session()
    assert cookie_of(first) == ""
    first["n"] = 1
    again = session(cookie_of(first))
    assert cookie_of(again) == ""
    again["n"] = 1
    assert cookie_of(again) == ""
    again["n"] = 2
    assert cookie_of(again) != ""


def test_after_half_of_its_time_it_is_given_anew(
    aged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    aged(Session.max_age // 2 + 5)
    first = session()
    first["n"] = 1
    old = cookie_of(first)
    monkeypatch.undo()
    assert cookie_of(session(old)) not in ("", old)


def test_one_that_is_too_old_is_empty(aged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    aged(Session.max_age + 5)
    first = session()
    first["n"] = 1
    old = cookie_of(first)
    monkeypatch.undo()
    assert session(old) == {}
    assert b"Max-Age=0" in session(old).fields()


def test_only_the_keys_that_are_named_count_and_the_first_one_signs() -> None:
    first = session("", OTHER)
    first["n"] = 1
    cookie = cookie_of(first)
    assert session(cookie, KEY) == {}
    changed = session(cookie, KEY, OTHER)
    assert changed == {"n": 1}
    changed["n"] = 2
    assert session(cookie_of(changed), KEY) == {"n": 2}


def test_a_cookie_of_another_name_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    first = session()
    first["n"] = 1
    cookie = cookie_of(first)
    monkeypatch.setattr(Session, "cookie_name", "other")
    assert Session(request("", f"Cookie: other={cookie}\r\n"), (KEY,)) == {}


@pytest.mark.parametrize(
    ("fields", "ip", "scheme", "expected"),
    [
        ("", "127.0.0.1", "http", False),
        ("", "::1", "http", False),
        ("", "127.0.0.1", "https", True),
        ("", "192.0.2.1", "http", True),
        ("X-Forwarded-Proto: https\r\n", "127.0.0.1", "http", True),
        ("Forwarded: for=192.0.2.1\r\n", "127.0.0.1", "http", True),
    ],
)
def test_which_one_is_secure(fields: str, ip: str, scheme: str, expected: bool) -> None:
    asked = request("", fields, ip, scheme)
    assert is_secure(asked) is expected
    made = Session(asked, (KEY,))
    made["n"] = 1
    assert (b"; Secure;" in made.fields()) is expected
    assert made.is_dropped is (expected and scheme == "http")


def test_what_does_not_fit_is_refused() -> None:
    made = session()
    made["text"] = bytes(n * n * 31 % 251 for n in range(20000)).hex()
    made["keys"] = {str(n * 7919 % 100003): n for n in range(1000)}
    with pytest.raises(ValueError, match="bytes as a cookie, of which browsers keep 4096"):
        made.fields()


def test_what_is_no_json_is_refused() -> None:
    for bad in (object(), float("nan"), {1, 2}):
        made = session()
        made["what"] = bad
        with pytest.raises((TypeError, ValueError)):
            made.fields()
