"""The compiled core and the one in Python do the same with the same bytes."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pure import modules, pure_modules

HERE = modules()
PURE = pure_modules()

pytestmark = pytest.mark.skipif(
    HERE.core.IMPLEMENTATION != "compiled", reason="the core in Python runs"
)

LIMIT = 64


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """What it returns, or the type and text of what it raises."""
    try:
        return function(*arguments)
    except Exception as error:
        return type(error).__name__, str(error)


# ---- requests

token = st.text("aZ09!#$%&'*+-.^_`|~", min_size=1, max_size=6).map(str.encode)
case = st.sampled_from([bytes.lower, bytes.upper, bytes])
method = st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"])
target = st.one_of(
    st.sampled_from([b"/", b"*", b"http://a/b?c=%41", b"/a%20b?x=1&y=%ff+&x=2&z", b"/?", b"/a#b"]),
    st.text("/aZ%20?=&+;.~\"\\|[]é", max_size=12).map(lambda text: b"/" + text.encode("latin-1")),
    st.lists(st.sampled_from([b"a=1", b"b", b"", b"=", b"%3d=%26", b"a=%C3%A9", b"%"]), max_size=6)
    .map(b"&".join).map(b"/q?".__add__),
)  # fmt: skip
blank = st.sampled_from([b"", b" ", b"\t", b" \t "])
value = st.text('az,;="\t é\xff', max_size=12).map(lambda text: text.encode("latin-1"))
cookies = st.lists(
    st.sampled_from([b"a=1", b" b = 2 ", b'c="q"', b"a=3", b"=x", b"x", b'd="', b"", b"e=\xe9"]),
    max_size=5,
).map(b";".join)
host = st.sampled_from(
    [b"a", b"A.b:80", b"127.0.0.1:8000", b"[::1]:80", b"a:", b"a:x", b"a b", b"", b"a,b", b"%41"]
)
harmless = st.one_of(
    st.tuples(st.just(b"Cookie"), cookies),
    st.tuples(st.just(b"Connection"), st.just(b"keep-alive")),
    st.tuples(st.just(b"Content-Type"), st.sampled_from([b"text/plain", b"application/json"])),
    st.tuples(st.just(b"X-Forwarded-For"), st.sampled_from([b"1.2.3.4", b"x"])),
    st.tuples(token, value),
)
odd = st.one_of(
    st.tuples(st.just(b"Host"), host),
    st.tuples(st.just(b"Connection"), st.sampled_from([b"Close", b"Upgrade", b"x", b"close, x"])),
    st.tuples(
        st.just(b"Content-Length"), st.sampled_from([b"0", b"3", b"003", b"+3", b"99", b"3,3", b""])
    ),
    st.tuples(st.just(b"Content-Type"), st.just(b"Multipart/form-data")),
    st.tuples(
        st.sampled_from([b"Expect", b"Upgrade", b"Transfer-Encoding", b"Proxy-Connection"]),
        st.sampled_from([b"100-continue", b"chunked", b"keep-alive", b"websocket"]),
    ),
    st.tuples(token, st.binary(max_size=4)),
)
one_in_four = st.sampled_from([True, False, False, False])


@st.composite
def plain_request(draw: st.DrawFn) -> bytes:
    """One that is mostly right."""
    body = draw(st.sampled_from([b"", b"", b"abc", b"x" * LIMIT, b"x" * (LIMIT + 1)]))
    given_fields = draw(st.lists(harmless, max_size=4))
    if draw(one_in_four):
        given_fields.append(draw(odd))
    lines = [b"Host: example.com"] + [b"Content-Length: %d" % len(body)] * bool(body)
    for name, text in given_fields:
        lines.append(draw(case)(name) + b":" + draw(blank) + text + draw(blank))
    line = draw(method) + b" " + draw(target) + b" HTTP/1.1"
    return b"\r\n".join([line, *draw(st.permutations(lines)), b"", body])


@st.composite
def stream(draw: st.DrawFn) -> list[bytes]:
    """What a client sends, in pieces; some of it is damaged."""
    data = b"".join(draw(st.lists(plain_request(), min_size=1, max_size=3)))
    if draw(one_in_four):
        at = draw(st.integers(0, len(data)))
        damage = draw(st.sampled_from([b"\r\n", b"\n ", b" ", b":", b"\0", b"\x7f", b"\r", b""]))
        data = data[:at] + damage + data[at + draw(st.integers(0, 2)) :]
    most = 2 if draw(one_in_four) else 0
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=most)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]


def seen(request: Any, loaded: SimpleNamespace) -> dict[str, Any]:
    """All that a handler can see of a request."""
    names = (
        "method", "target", "version", "raw_path", "path", "query_string", "cookies", "body",
        "keep_alive", "content_type", "host", "client_ip", "scheme", "is_websocket", "text",
    )  # fmt: skip
    found = {name: outcome(getattr, request, name) for name in names}
    query = outcome(getattr, request, "query")
    if isinstance(query, dict):
        query = dict(query), {name: query.get_all(name) for name in query}
    request.headers  # noqa: B018  (looked up among the bytes of the head, then as a dict)
    lookups = [
        outcome(function, name)
        for function in (request.headers.get, request.headers.get_all, request.headers.__getitem__)
        for name in ("host", "HOST", "Cookie", "x", "a", "Content-Length", "", "é", "\u212aookie")
    ]
    pairs = list(request.headers.pairs())
    again = type(request)(*request.__reduce__()[1])
    request.forget()
    return {
        **found,
        "query": query,
        "lookups": lookups,
        "pairs": pairs,
        "length": len(request.headers),
        "names": list(request.headers),
        "repr": repr(request),
        "pickled": request.__reduce__()[1],
        "again": (again.method, again.path, list(again.headers.pairs())),
    }


def without_date(data: bytes) -> bytes:
    return re.sub(rb"Date: [^\r]*", b"Date: now", data)


def conversation(loaded: SimpleNamespace, pieces: list[bytes], make: Any, above: Any) -> list[Any]:
    protocol = loaded.protocol.HttpProtocol(LIMIT)
    protocol.configure({"stream_above": above})
    protocol.origin = ("127.0.0.1", 5)
    said: list[Any] = []
    for piece in [*pieces, b""]:
        protocol.receive_data(piece)
        while True:
            try:
                event = protocol.next_event()
            except loaded.errors.ProtocolError as error:
                said.append((type(error).__name__, str(error), without_date(error.reply)))
                return said
            if isinstance(event, loaded.base.Control):
                said.append(str(event))
                if event is not loaded.base.MORE:
                    break
                continue
            if not isinstance(event, loaded.http.Request):
                said.append(type(event).__name__)
                return said
            said.append((protocol.raw_head, seen(event, loaded)))
            answer = outcome(protocol.encode, make(loaded))
            said.append(without_date(answer) if isinstance(answer, bytes) else answer)
    return said


@settings(max_examples=300, deadline=None)
@given(stream(), st.sampled_from([None, None, 0, 10]))
def test_the_same_requests_and_refusals(pieces: list[bytes], above: int | None) -> None:
    def answer(loaded: SimpleNamespace) -> str:
        return "ok"

    assert conversation(HERE, pieces, answer, above) == conversation(PURE, pieces, answer, above)


MINE = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"OPTIONS /a?b=%41 HTTP/1.1\r\nhost:a:80\r\nConnection:\tKeep-Alive\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 16000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 99 + b"\r\n",
]
NOT_MINE = [
    b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
    b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 16384 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 100 + b"\r\n",
    b"GET /" + b"x" * 8192 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n" + b"a" * 99,
    b"GET / HTTP/1.1\r\nHost: a\r\n",
    b"",
]


@settings(max_examples=300, deadline=None)
@given(stream())
def test_the_same_are_simple(pieces: list[bytes]) -> None:
    def taken(loaded: SimpleNamespace) -> tuple[Any, ...] | None:
        data = b"".join(pieces)
        found = loaded.core.parse_request(loaded.http.Request, data, 0, None, LIMIT)
        return None if found is None else (found[0].body, *found[1:])

    assert taken(HERE) == taken(PURE)


@pytest.mark.parametrize("data", MINE)
def test_what_is_taken(data: bytes) -> None:
    for each in (HERE, PURE):
        found = each.core.parse_request(each.http.Request, data + b"rest", 0, None, LIMIT)
        assert found is not None
        request, method, head, stop = found
        assert (head + request.body, stop) == (data, len(data))
        assert method == request.method.encode()


@pytest.mark.parametrize("data", NOT_MINE)
def test_what_is_left_to_python(data: bytes) -> None:
    for each in (HERE, PURE):
        assert each.core.parse_request(each.http.Request, data, 0, None, LIMIT) is None


# ---- answers


class Name(str):
    """As that of an enum."""

    __slots__ = ()


text = st.text("a\xe9\u20ac\ud800", max_size=5)
body = st.one_of(
    text, st.binary(max_size=5), st.binary(max_size=5).map(bytearray),
    st.sampled_from(["x" * 9000, b"x" * 9000]),
)  # fmt: skip
field_name = st.sampled_from(
    2 * ("A", "a", "X-B", "Content-Type", "Set-Cookie", "DATE", "transfer-encoding")
    + ("content-length", "Connection", "b\u00e9", "", "x y", 3, Name("A"))
)
field_value = st.sampled_from(
    ["1", "close", "text/plain; charset=\xe9", "", "1", "2", "x" * 9000, "a\r\nb", "\u20ac", None]
)
fields = st.lists(st.tuples(field_name, field_value), max_size=4)
status = st.one_of(
    st.just(200),
    st.integers(200, 599),
    st.sampled_from([99, 100, 101, 204, 205, 304, 600, True, 1 << 70, "200"]),
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([b"GET", b"HEAD"]), body, st.booleans(), status, fields,
    st.sampled_from([dict, list, tuple]),
)  # fmt: skip
def test_the_same_answers(
    asked: bytes, given_body: Any, is_response: bool, code: Any, given_fields: Any, kind: Any
) -> None:
    def answer(loaded: SimpleNamespace) -> Any:
        if not is_response:
            return given_body
        return outcome(loaded.http.Response, given_body, code, kind(given_fields))

    pieces = [asked + b" / HTTP/1.1\r\nHost: a\r\n\r\n"] * 2
    assert conversation(HERE, pieces, answer, None) == conversation(PURE, pieces, answer, None)


# ---- JSON

characters = st.text('a"\\/\n\x00\x1f\x7f\xe9\u20ac\ud800\udc00\U0001f600', max_size=5)
scalar = st.one_of(
    characters, st.integers(), st.floats(), st.booleans(), st.none(),
    st.sampled_from([Name("a"), "x" * 5000, "\xe9" * 5000, 2**63 - 1, -(2**63), 2**63, 5e-324]),
)  # fmt: skip


def document_of(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    key = st.one_of(characters, st.sampled_from([1, None, Name("b")]))
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.tuples(inner, inner), st.dictionaries(key, inner)
        ),
        max_leaves=12,
    )


STRANGE = [
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff",
    b"NaN",
    b"1e999",
    b",",
    b"]",
    b'"',
    b"\\",
    b".",
    b"e",
    b"0",
]


def deep(levels: int, kind: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = kind(value)
    return value


def circle() -> list[Any]:
    value: list[Any] = []
    value.append({"a": value})
    return value


def listed(value: Any) -> list[Any]:
    return [value]


def named(value: Any) -> dict[str, Any]:
    return {"a": value}


def written(loaded: SimpleNamespace, value: Any) -> tuple[Any, Any]:
    """As an answer, and as the body of a Response."""
    pieces = [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"]
    body = outcome(lambda: loaded.http.Response.json(value).body)
    return conversation(loaded, pieces, lambda _: value, None)[-2:], body


@settings(max_examples=500, deadline=None)
@given(document_of(st.one_of(scalar, st.binary(max_size=1))))
def test_the_same_json_is_written(value: Any) -> None:
    assert written(HERE, value) == written(PURE, value)


@pytest.mark.parametrize(
    "value", [deep(levels, kind) for levels in (64, 65, 100_000) for kind in (listed, named)]
)
def test_json_that_is_nested_is_written(value: Any) -> None:
    assert written(HERE, value) == written(PURE, value)


def test_json_that_contains_itself_is_written_by_none() -> None:
    value = circle()
    assert written(HERE, value) == written(PURE, value)
    assert written(HERE, value)[1][0] == "ValueError"


def read(loaded: SimpleNamespace, data: bytes) -> str:
    request = loaded.http.Request(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", data)
    return repr(outcome(request.json))


@settings(max_examples=500, deadline=None)
@given(
    document_of(scalar), st.booleans(), st.sampled_from([None, 1]),
    st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from(STRANGE)), max_size=2),
)  # fmt: skip
def test_the_same_json_is_read(
    value: Any, is_ascii: bool, indent: Any, encoding: str, damages: list[tuple[int, bytes]]
) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii, indent=indent)
    data = text.encode(encoding, "surrogatepass")
    for at, damage in damages:
        data = data[:at] + damage + data[at + 1 :]
    assert read(HERE, data) == read(PURE, data)


READ = [
    b"1.e5", b"1.", b"-", b"01", b"-0", b"-0.0", b"1e", b"1E+5", b"null", b"nul", b" [ ] ", b"{ }",
    b'{"a":1,"a":2}', b'{"a":1,}', b"[1,]", b'"', b'"\\', b'"\\u12"', b'"\\u00g0"',
    b'"\\ud83d\\ude00"',
    b'"\\ude00"', b'"\\ud83d"', b'"\\ud83dxxxxxx"', b'"\\x"', b'"\xed\xa0\x80"', b'"\t"', b"1" * 18,
    b"1" * 19, b"1" * 5000, b"[" * 64 + b"]" * 64, b"[" * 65 + b"]" * 65, b"[" * 100_000,
    b'{"a":' * 64 + b"1" + b"}" * 64, b"1 1", b"1\0", b"1\x0b", b"-Infinity", b"0.1e-400", b"",
]  # fmt: skip


@pytest.mark.parametrize("data", READ)
def test_what_json_is(data: bytes) -> None:
    assert read(HERE, data) == read(PURE, data)


# ---- fields, parameters, cookies

name = st.sampled_from(["A", "a", "X-b", "x-B", "\u212a", "k", "", 3, Name("x-B")])
set_operation = st.sampled_from(["add", "__setitem__"])
get_operation = st.sampled_from(
    ["get_all", "get", "__getitem__", "__contains__", "pop", "__delitem__"]
)
whole_operation = st.sampled_from(
    ["__len__", "items", "encode", "pairs", "__repr__", "keys", "popitem"]
)
operation = st.one_of(
    st.tuples(set_operation, name, st.sampled_from(["1", "2", "\n", "é"])),
    st.tuples(get_operation, name),
    st.tuples(whole_operation),
)
HEADS = (b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nA: 1\r\nx-B:2 \r\na: 3\r\n\r\n")


def worked(loaded: SimpleNamespace, head: bytes, operations: Any) -> list[Any]:
    headers, said = loaded.http.Headers.from_head(head), []
    for method_name, *arguments in operations:
        found = outcome(lambda: getattr(headers, method_name)(*arguments))
        said.append(found if isinstance(found, str | bytes | int | tuple) else repr(_listed(found)))
    copied = pickle.loads(pickle.dumps(list(headers.pairs())))
    return [*said, headers == loaded.http.Headers(copied), headers.__getstate__()]


def _listed(found: Any) -> Any:
    return list(found) if hasattr(found, "__iter__") else found


@settings(deadline=None)
@given(st.sampled_from(HEADS), st.lists(operation, max_size=6))
def test_the_same_headers(head: bytes, operations: Any) -> None:
    assert worked(HERE, head, operations) == worked(PURE, head, operations)


@given(st.one_of(st.text("a=&+%4fF\u00e9", max_size=20), st.sampled_from(["&" * 999, "a&" * 1000])))
def test_the_same_parameters(encoded: str) -> None:
    def parsed(loaded: SimpleNamespace) -> Any:
        found = outcome(loaded.parameters.Parameters.parse, encoded)
        return found if isinstance(found, tuple) else (dict(found), found.__reduce__()[1])

    assert parsed(HERE) == parsed(PURE)


@given(st.text('a=; "\t\x1c\xa0\u00e9', max_size=20))
def test_the_same_cookies(given_field: str) -> None:
    assert HERE.core.parse_cookies(given_field) == PURE.core.parse_cookies(given_field)
