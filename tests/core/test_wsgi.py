"""Both cores: what of a request stands in an environ, and which answers may be sent."""

from __future__ import annotations

from typing import Any

import pytest
from served import CORES

HEAD = "{} HTTP/1.1\r\nHost: h.example:81\r\n{}\r\n"


@pytest.fixture(params=CORES)
def core(request: pytest.FixtureRequest) -> Any:
    return CORES[request.param]


def environ(core: Any, line: str, *fields: str, root: str = "") -> dict[str, Any]:
    head = HEAD.format(line, "".join(f"{each}\r\n" for each in fields)).encode("latin-1")
    return dict(core.core.make_environ({"a": 1}, core.request.Request(head), root))


def test_the_line_and_the_template(core: Any) -> None:
    assert environ(core, "GET /p/q?a=b&c") == {
        "a": 1,
        "REQUEST_METHOD": "GET",
        "RAW_URI": "/p/q?a=b&c",
        "REQUEST_URI": "/p/q?a=b&c",
        "PATH_INFO": "/p/q",
        "QUERY_STRING": "a=b&c",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "h.example:81",
    }


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/%E4%BD%A0", "/\xe4\xbd\xa0", ""),
        ("/a%2Fb?%2F", "/a/b", "%2F"),
        ("/%2525", "/%25", ""),
        ("/%zz%4", "/%zz%4", ""),
        ("//a//b;c=1+d/../e", "//a//b;c=1+d/../e", ""),
        ("/?a?b", "/", "a?b"),
        ("/a?", "/a", ""),
        ("/" + "a" * 3000 + "%20", "/" + "a" * 3000 + " ", ""),
    ],
)
def test_a_path_is_decoded_once_and_else_left_alone(
    core: Any, target: str, path: str, query: str
) -> None:
    found = environ(core, f"GET {target}")
    assert (found["PATH_INFO"], found["QUERY_STRING"]) == (path, query)
    assert found["REQUEST_URI"] == found["RAW_URI"] == target


@pytest.mark.parametrize(
    ("line", "path", "host"),
    [
        ("GET http://other:99/abs?x", "/abs", "other:99"),
        ("GET http://other?x", "/", "other"),
        ("OPTIONS *", "", "h.example:81"),
    ],
)
def test_other_forms_of_a_target(core: Any, line: str, path: str, host: str) -> None:
    found = environ(core, line)
    assert (found["PATH_INFO"], found["HTTP_HOST"]) == (path, host)


@pytest.mark.parametrize(
    ("target", "path"),
    [("/shop/a", "/a"), ("/shop", ""), ("/shopping", "/shopping"), ("/a", "/a"), ("/sh%6fp/", "/")],
)
def test_what_follows_the_root_is_the_path(core: Any, target: str, path: str) -> None:
    assert environ(core, f"GET {target}", root="/shop")["PATH_INFO"] == path


def test_fields(core: Any) -> None:
    found = environ(
        core, "POST /", "Content-Type:\t a/b ", "content-LENGTH: 3", "X-Two: 1", "X-Empty:",
        "x-two: 2", "Cookie: a=1", "Cookie: b=2", "X-Latin: \xe9\xff", "X-Two:3",
    )  # fmt: skip
    del found["HTTP_HOST"]
    assert {key: value for key, value in found.items() if key.startswith(("HTTP_", "CONT"))} == {
        "CONTENT_TYPE": "a/b",
        "CONTENT_LENGTH": "3",
        "HTTP_X_TWO": "1,2,3",
        "HTTP_X_EMPTY": "",
        "HTTP_COOKIE": "a=1; b=2",
        "HTTP_X_LATIN": "\xe9\xff",
    }


def test_fields_that_could_be_forged_are_left_out(core: Any) -> None:
    found = environ(core, "GET /", "X_Real_Ip: 6.6.6.6", "Proxy: http://evil", "Content_Length: 7")
    assert {key for key in found if key.startswith(("HTTP_", "CONT"))} == {"HTTP_HOST"}


def test_any_number_of_names(core: Any) -> None:
    for start in range(0, 5000, 90):
        names = [f"x-{number}" for number in range(start, start + 90)]
        found = environ(core, "GET /", *(f"{name}: {name}" for name in names))
        assert all(found[f"HTTP_X_{name[2:]}"] == name for name in names)


@pytest.mark.parametrize("status", ["200 OK", "299 Tr\xe8s bien", "200", "404 ", "599 a\tb"])
def test_a_status(core: Any, status: str) -> None:
    answer = core.core.PreparedAnswer(status, [("A", "b")], b"c")
    assert (answer.status, answer.fields, answer.body) == (status, [("A", "b")], b"c")


@pytest.mark.parametrize(
    "status",
    [
        "",
        "20",
        "2000 OK",
        "OK",
        "200OK",
        "099 a",
        "200 a\r\nX: y",
        "200 a\n",
        "200 \u20ac",
        "-20 a",
    ],
)
def test_what_is_no_status(core: Any, status: str) -> None:
    with pytest.raises(ValueError, match="a status is three digits and a reason"):
        core.core.PreparedAnswer(status, [])


@pytest.mark.parametrize("status", [200, b"200 OK", None])
def test_a_status_is_a_str(core: Any, status: object) -> None:
    with pytest.raises(TypeError, match="a status is a str"):
        core.core.PreparedAnswer(status, [])


@pytest.mark.parametrize(
    ("field", "error"),
    [
        (("A\r\nB", "c"), ValueError),
        (("A", "b\r\nC: d"), ValueError),
        (("A", "\u20ac"), ValueError),
        (("", "b"), ValueError),
        (("A b", "c"), ValueError),
        (("A", b"b"), TypeError),
        ((b"A", "b"), TypeError),
        (("A",), ValueError),
        (3, TypeError),
    ],
)
def test_what_is_no_field(core: Any, field: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        core.core.PreparedAnswer("200 OK", [("Ok", "1"), field])


def test_the_fields_are_a_copy(core: Any) -> None:
    given = [("A", "b")]
    answer = core.core.PreparedAnswer("200 OK", given)
    given.append(("C", "d\r\n"))
    assert answer.fields == [("A", "b")]
