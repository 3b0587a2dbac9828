"""Response: types, defaults, JSON, redirects."""

from __future__ import annotations

import pytest

from gworker.http import Response


def test_a_response_of_the_wrong_types_is_refused_where_it_is_made():
    for arguments in ((5,), (None,), ("x", "200"), ("x", None)):
        with pytest.raises(TypeError, match="a response (body|status) is"):
            Response(*arguments)


def test_response_defaults():
    response = Response()
    assert (response.body, response.status, len(response.headers)) == (b"", 200, 0)
    assert repr(Response("abc", 404)) == "<Response 404 3 bytes>"


@pytest.mark.parametrize("body", [None, 5, {}, ["x"]])
def test_body_of_a_wrong_type(body):
    with pytest.raises(TypeError, match=f"not {type(body).__name__}"):
        Response(body)


def test_json_response():
    response = Response.json({"a": "é"}, 201)
    assert (response.status, response.body) == (201, '{"a": "é"}'.encode())
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("location", "sent"),
    [
        ("/a?b=c&d=%20#e", "/a?b=c&d=%20#e"),
        ("/é b", "/%C3%A9%20b"),
        ("http://[::1]:8/", "http://[::1]:8/"),
    ],
)
def test_redirect(location, sent):
    response = Response.redirect(location, 307)
    assert (response.status, response.headers["Location"]) == (307, sent)
    assert Response.redirect("/").status == 302


@pytest.mark.parametrize(("location", "status"), [("/a\r\nX: y", 302), ("/\0", 302), ("/", 200)])
def test_redirects_that_are_none(location, status):
    with pytest.raises(ValueError, match="redirect"):
        Response.redirect(location, status)
