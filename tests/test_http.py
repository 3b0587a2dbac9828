from __future__ import annotations

import encodings
import pickle
import random
from urllib.parse import parse_qsl, unquote

import pytest

from gworker.http import BadRequest, Headers, Parameters, Request, Response
from gworker.http.charset import _CODECS, decode
from gworker.http.parameters import MAX_FIELDS
from gworker.http.slices import SLICE, Slices


def request(line: str = "GET / HTTP/1.1", *fields: str, body: bytes = b"") -> Request:
    return Request("\r\n".join([line, "Host: a", *fields, "", ""]).encode("latin-1"), body)


# --- Request


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


@pytest.mark.parametrize(
    "charset",
    [
        "nonsense",
        "idna",
        "punycode",
        "hex",
        "unicode_escape",
        "zlib",
        "undefined",
        "mbcs",
        "charmap",
    ],
)
def test_charsets_that_are_none(charset):
    with pytest.raises(ValueError, match=f"unknown charset '{charset}'"):
        assert request(
            "POST / HTTP/1.1", f"Content-Type: text/plain; charset={charset}", body=b"aa"
        ).text


def test_a_charset_that_is_unknown_leaves_nothing_behind():
    before = len(encodings._cache)
    for number in range(3):
        asked = request(
            "POST / HTTP/1.1", f"Content-Type: text/plain; charset=none-{number}", body=b"a"
        )
        with pytest.raises(ValueError, match="unknown charset"):
            assert asked.text
    assert len(encodings._cache) == before


@pytest.mark.parametrize(
    "name", sorted({*_CODECS.values(), "UTF-8", "us-ascii", "Shift_JIS", "ISO-8859-15"})
)
def test_what_is_a_charset_decodes(name):
    assert decode("a".encode(name), name) == "a"


def test_text_that_is_not_what_it_says():
    with pytest.raises(ValueError, match="utf-8"):
        assert request(body=b"\xff").text


@pytest.mark.parametrize("body", [b"{", b"", b"\xff", b"[" * 100000])
def test_json_that_is_none_is_a_bad_request(body):
    with pytest.raises(BadRequest) as raised:
        request(body=body).json()
    assert raised.value.reply.startswith(b"HTTP/1.1 400 ")


def test_json():
    assert request(body=b'{"a": [1, "\xc3\xa9"]}').json() == {"a": [1, "é"]}
    with pytest.raises(ValueError, match="."):
        request(body=b"{").json()
    with pytest.raises(ValueError, match="nested"):
        request(body=b"[" * 100000).json()


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


# --- Headers


def test_headers_are_a_case_insensitive_mapping():
    headers = Headers({"A": "1", "B": "2"})
    headers["a"] = "3"
    assert "A" in headers
    assert 5 not in headers
    assert headers["A"] == "3"
    assert list(headers) == ["a", "B"]
    assert len(headers) == 2
    assert headers == {"a": "3", "B": "2"}
    del headers["b"]
    with pytest.raises(KeyError):
        headers["B"]
    headers.add("x", "1")
    headers.add("X", "2")
    assert list(headers.pairs()) == [("a", "3"), ("x", "1"), ("x", "2")]
    assert repr(headers) == "Headers([('a', '3'), ('x', '1'), ('x', '2')])"
    headers["X"] = "4"
    assert headers.get_all("x") == ["4"]


SPLITTING = ["a\r\nb: c", "a\nb", "a\rb", "a\0b", "a\x0bb", "\u010a", "a\x7f"]


@pytest.mark.parametrize("value", SPLITTING)
def test_no_value_ends_its_line(value):
    """U+010A would become LF if it were cut to a byte."""
    headers = Headers()
    for attempt in (
        lambda: headers.add("X", value),
        lambda: headers.__setitem__("X", value),
        lambda: Headers({"X": value}),
        lambda: Headers([("X", value)]),
        lambda: Response(headers={"X": value}),
        lambda: Response(content_type=value),
        lambda: Response().set_cookie("a", value),
        lambda: Response().set_cookie("a", "b", path=value),
        lambda: Response().set_cookie("a", "b", domain=value),
        lambda: Response().set_cookie("a", "b", samesite=value),
        lambda: Response().set_cookie(value, "b"),
        lambda: headers.add(value, "x"),
    ):
        with pytest.raises(ValueError, match="."):
            attempt()
    assert not headers


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r", "é", "(a)"])
def test_names_are_tokens(name):
    with pytest.raises(ValueError, match="token"):
        Headers().add(name, "x")


@pytest.mark.parametrize(("name", "value"), [("X", 1), ("X", None), (b"X", "a"), ("X", b"a")])
def test_fields_are_str(name, value):
    with pytest.raises(TypeError, match="str"):
        Headers().add(name, value)


# --- Response


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


def test_parameters_of_nothing():
    assert Parameters.parse("") == {}
    assert Parameters([("a", "1"), ("a", "2")]).get_all("a") == ["1", "2"]


# --- slices


def test_percent_decoding_in_slices_is_that_of_the_standard_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns: list[int] = []
    monkeypatch.setattr("gworker.http.slices.give_way", lambda: turns.append(1))
    pieces = random.Random(1)
    alphabet = [*"abc=%é€;", "%41", "%C3", "%A9", "%4", "%zz", "%E2%82%AC", "\U0001f600"]
    for size in (*range(30), *range(SLICE - 6, SLICE + 6), 3 * SLICE):
        text = "".join(pieces.choice(alphabet) for _ in range(size))
        assert Slices().unquoted(text) == unquote(text)
        fields = f"{text}&{text}&a&=b&&c=%20+d"
        assert list(Parameters.parse(fields).items()) == list(
            dict(parse_qsl(fields, keep_blank_values=True)).items()
        )
    assert len(turns) > 20


@pytest.mark.parametrize("codec", ["utf-8", "gb18030", "shift_jis", "utf-16", "latin-1"])
def test_charsets_are_decoded_in_slices(codec: str) -> None:
    text = "aé"[: 1 if codec == "shift_jis" else 2] * 100_000
    assert Slices().decoded(text.encode(codec), codec) == text
    if codec == "utf-8":
        with pytest.raises(ValueError):
            Slices().decoded(text.encode(codec) + b"\xc3", codec)


def test_a_form_of_many_small_fields_gives_way_too(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []
    monkeypatch.setattr("gworker.http.slices.give_way", lambda: turns.append(1))
    Parameters.parse("&".join(["a=" + "%41" * 300] * 1000))
    assert len(turns) >= 1000 * 900 // SLICE
