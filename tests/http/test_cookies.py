"""Cookies: what is read, what is set, and what browsers would drop."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gworker.http import Response

DATE = "Sun, 09 Sep 2001 01:46:40 GMT"


def test_all_attributes_of_a_cookie() -> None:
    response = Response()
    response.set_cookie(
        "a", "1", expires=1_000_000_000, samesite="none", secure=True, partitioned=True
    )
    response.set_cookie("b", "1", path=None, expires=datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC))
    response.set_cookie("__Host-c", "1", secure=True)
    response.delete_cookie("d", secure=True, partitioned=True)
    response.set_cookie("__Host", "1", path=None)
    assert response.headers.get_all("Set-Cookie") == [
        f"a=1; Expires={DATE}; Path=/; SameSite=None; Secure; Partitioned",
        f"b=1; Expires={DATE}",
        "__Host-c=1; Path=/; Secure",
        "d=; Max-Age=0; Path=/; Secure; Partitioned",
        "__Host=1",
    ]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a", {"partitioned": True}),
        ("a", {"samesite": "None"}),
        ("__Secure-a", {}),
        ("__host-a", {"secure": True, "domain": "a.example"}),
        ("__Host-a", {"secure": True, "path": "/x"}),
        ("a", {"path": "/\r\nX: y"}),
        ("a", {"domain": "a; Secure"}),
    ],
)
def test_cookies_that_browsers_would_drop(name: str, options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="cookie"):
        Response().set_cookie(name, "1", **options)


def test_cookies_of_a_response():
    response = Response()
    response.set_cookie("a", "1")
    response.set_cookie("b", '"2"', 60, "/x", "example.org", True, True, "lax")
    response.set_cookie("c", "3", path=None, samesite="None", secure=True)
    response.delete_cookie("d", domain="example.org")
    assert response.headers.get_all("set-cookie") == [
        "a=1; Path=/",
        'b="2"; Max-Age=60; Path=/x; Domain=example.org; SameSite=Lax; Secure; HttpOnly',
        "c=3; SameSite=None; Secure",
        "d=; Max-Age=0; Path=/; Domain=example.org",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("a b", "x"),
        ("", "x"),
        ("a=", "x"),
        ("a", "x;y"),
        ("a", "x y"),
        ("a", 'x"'),
        ("a", "é"),
        ("a", "x,y"),
        ("a", "\\"),
    ],
)
def test_cookies_that_would_not_survive(arguments):
    with pytest.raises(ValueError, match="cookie"):
        Response().set_cookie(*arguments)


@pytest.mark.parametrize("option", [{"path": "/;x"}, {"domain": "a;b"}, {"samesite": "maybe"}])
def test_cookie_attributes_that_are_none(option):
    with pytest.raises(ValueError, match="must be one of|cannot be"):
        Response().set_cookie("a", "b", **option)
