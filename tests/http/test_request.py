"""Request: target, query, headers, text, JSON, forms; what of it is kept."""

from __future__ import annotations

import pickle

import pytest

from gworker.http import BadRequest, Request
from gworker.http.parameters import MAX_FIELDS


def request(line: str = "GET / HTTP/1.1", *fields: str, body: bytes = b"") -> Request:
    return Request("\r\n".join([line, "Host: a", *fields, "", ""]).encode("latin-1"), body)


@pytest.mark.parametrize(
    ("target", "path", "query_string"),
    [
        ("/", "/", ""),
        ("/a/b?c=d", "/a/b", "c=d"),
        ("/a%20b%2Fc%C3%A9+", "/a b/cé+", ""),
        ("/%ff", "/\ufffd", ""),
        ("/a?b?c", "/a", "b?c"),
        ("/?", "/", ""),
        ("//a/b", "//a/b", ""),
        ("/http://x/y", "/http://x/y", ""),
        ("http://a:80/b%20c?d=e", "/b c", "d=e"),
        ("http://a", "/", ""),
        ("http://a?b", "/", "b"),
        ("HTTPS://a/b", "/b", ""),
        ("*", "*", ""),
    ],
)
def test_target(target, path, query_string):
    got = request(f"OPTIONS {target} HTTP/1.0")
    assert (got.method, got.target, got.version) == ("OPTIONS", target, "1.0")
    assert (got.path, got.query_string) == (path, query_string)
    assert repr(got) == f"<Request OPTIONS {target}>"


def test_query():
    query = request("GET /?a=1&b=%C3%A9+x&a=2&c=&d HTTP/1.1").query
    assert query == {"a": "2", "b": "é x", "c": "", "d": ""}
    assert query.get_all("a") == ["1", "2"]
    assert query.get_all("z") == []
    assert query.get("z") is None
    assert request().query == {}
    copy = pickle.loads(pickle.dumps(query))
    assert copy == query
    assert copy.get_all("a") == ["1", "2"]


def test_a_query_of_too_many_parameters_is_the_clients_fault():
    assert (
        len(request("GET /?" + "&".join(["a=1"] * MAX_FIELDS) + " HTTP/1.1").query.get_all("a"))
        == MAX_FIELDS
    )
    with pytest.raises(BadRequest) as refused:
        assert request("GET /?" + "&".join(["a=1"] * (MAX_FIELDS + 1)) + " HTTP/1.1").query
    assert refused.value.status == 400


def test_headers_of_a_request():
    headers = request("GET / HTTP/1.1", "X-A:  1\t ", "x-a: 2", "Empty:", "Latin: \xe9").headers
    assert list(headers) == ["Host", "X-A", "Empty", "Latin"]
    assert headers["x-A"] == "1, 2"
    assert headers.get_all("X-a") == ["1", "2"]
    assert headers["empty"] == ""
    assert headers["latin"] == "é"
    assert headers.get("none") is None


@pytest.mark.parametrize(
    ("target", "host"),
    [("http://outer:80/x", "outer:80"), ("HTTPS://outer", "outer"), ("/x", "a"), ("*", "a")],
)
def test_host_is_that_of_a_target_which_is_a_whole_url(target, host):
    headers = request(f"OPTIONS {target} HTTP/1.1").headers
    assert headers["Host"] == host
    assert headers.get_all("host") == [host]
    assert list(headers) == ["Host"]


def test_cookies_of_several_lines_are_one_list():
    headers = request("GET / HTTP/1.1", "Cookie: a=1", "cookie: b=2, 3").headers
    assert headers["COOKIE"] == headers.get("cookie") == "a=1; b=2, 3"
    headers["Other"] = ""  # it is a dict from now on
    assert headers["Cookie"] == "a=1; b=2, 3"


def test_cookies():
    got = request(
        "GET / HTTP/1.1", 'Cookie: a=1; b="x y"; c=%20; =no; bare; a=2', 'Cookie: d=e=f; q="'
    )
    assert got.cookies == {"a": "1", "b": "x y", "c": "%20", "d": "e=f", "q": '"'}
    assert request().cookies == {}


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        (None, "é".encode(), "é"),
        ("text/plain", "é".encode(), "é"),
        ("text/plain; charset=latin-1", b"\xe9", "é"),
        ('text/plain;charset="UTF-16"; x=y', "é".encode("utf-16"), "é"),
        ("text/plain; Charset=ISO-8859-1", b"\xe9", "é"),
        ("text/plain; charset=ISO_8859-1:1987", b"\xe9", "é"),
        ("text/plain; charset=windows-1252", b"\x80", "€"),
        ("text/plain; charset=koi8-u", b"\xd1", "я"),
        ("text/plain; charset=utf-8-sig", b"\xef\xbb\xbfa", "a"),
    ],
)
def test_text(content_type, body, text):
    fields = [f"Content-Type: {content_type}"] if content_type else []
    assert request("POST / HTTP/1.1", *fields, body=body).text == text


def test_text_that_is_not_what_it_says():
    with pytest.raises(ValueError, match="utf-8"):
        assert request(body=b"\xff").text


FORM = "Content-Type: application/x-www-form-urlencoded"


def test_form():
    form = request("POST / HTTP/1.1", FORM + "; charset=utf-8", body=b"a=1&b=%C3%A9&a=2").form
    assert form == {"a": "2", "b": "é"}
    assert form.get_all("a") == ["1", "2"]
    assert request().form == {}


@pytest.mark.parametrize("content_type", ["multipart/form-data", "application/json", ""])
def test_forms_of_other_types_are_named(content_type):
    with pytest.raises(ValueError, match=f"content type '{content_type}'"):
        assert request(
            "POST / HTTP/1.1", f"Content-Type: {content_type}; boundary=x", body=b"a"
        ).form


def test_form_of_too_many_fields():
    assert (
        len(
            request("POST / HTTP/1.1", FORM, body=b"&".join([b"a=1"] * MAX_FIELDS)).form.get_all(
                "a"
            )
        )
        == MAX_FIELDS
    )
    with pytest.raises(ValueError, match="fields"):
        assert request("POST / HTTP/1.1", FORM, body=b"&".join([b"a=1"] * (MAX_FIELDS + 1))).form


def test_parsing_is_cached_and_forgotten():
    got = request()
    assert got.headers is got.headers
    headers = got.headers
    got.forget()
    assert got.headers is not headers
    assert got.headers == headers


def test_request_survives_pickling():
    got = pickle.loads(pickle.dumps(request("GET /a HTTP/1.1", body=b"x")))
    assert (got.path, got.body, got.keep_alive) == ("/a", b"x", True)
