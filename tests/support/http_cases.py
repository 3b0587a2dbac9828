# a case, a line
"""Requests written from RFC 9110 and RFC 9112: the valid with what they mean, the invalid with
their status.

Each has the section that it comes from. Where the RFC lets a server choose between guessing and
refusing, the choice here is to refuse.
"""

from __future__ import annotations

from typing import NamedTuple


class Valid(NamedTuple):
    section: str
    name: str
    raw: bytes
    method: str = "GET"
    target: str = "/"
    body: bytes = b""


class Invalid(NamedTuple):
    section: str
    name: str
    raw: bytes
    status: int = 400


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def get(*fields: str, line: str = "GET / HTTP/1.1") -> bytes:
    return head(line, "Host: example.org", *fields)


def post(*fields: str, body: bytes = b"") -> bytes:
    return head("POST / HTTP/1.1", "Host: example.org", *fields) + body


def chunked(body: bytes, *fields: str) -> bytes:
    return post("Transfer-Encoding: chunked", *fields, body=body)


VALID = [
    # --- the message as a whole
    Valid("9112 2.1", "no fields but Host", get()),
    Valid("9112 2.2", "one empty line before the request line", b"\r\n" + get()),
    Valid("9112 2.3", "HTTP/1.0 without Host", b"GET / HTTP/1.0\r\n\r\n"),
    Valid("9112 2.3", "HTTP/1.0 with Host", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
    # --- the request line
    Valid("9112 3.1", "a method that is not GET", head("DELETE / HTTP/1.1", "Host: a"), "DELETE"),
    Valid("9112 3.2.1", "origin form with a query", get(line="GET /a/b?c=d&e=%2F "
                                                             "HTTP/1.1"), target="/a/b?c=d&e=%2F"),
    Valid("9112 3.2.1", "an empty query", get(line="GET /? HTTP/1.1"), target="/?"),
    Valid("9112 3.2.1", "an empty segment", get(line="GET //a HTTP/1.1"), target="//a"),
    Valid("9112 3.2.2", "absolute form", get(line="GET http://example.org/a "
                                                  "HTTP/1.1"), target="http://example.org/a"),
    Valid("9112 3.2.2", "absolute form, no path", get(line="GET http://example.org "
                                                           "HTTP/1.1"),
                                                           target="http://example.org"),
    Valid("9112 3.2.4", "asterisk form", get(line="OPTIONS * HTTP/1.1"), "OPTIONS", "*"),
    # --- fields
    Valid("9110 5.1", "names in any case", b"GET / HTTP/1.1\r\nhOsT: a\r\n\r\n"),
    Valid("9110 5.3", "a field that comes twice", get("Accept: a", "Accept: b")),
    Valid("9110 5.5", "an empty value", get("X-Empty:")),
    Valid("9110 5.5", "space around a value", get("X-Space: \t a \t ")),
    Valid("9110 5.5", "obs-text in a value", get("X-Latin: \xe9\xff")),
    Valid("9110 5.6.2", "every character of a token", get("!#$%&'*+-.^_`|~09azAZ: x")),
    Valid("9110 5.6.4", "a quoted string", get('X-Quoted: "a, \\"b\\""')),
    Valid("9110 7.2", "Host with a port", head("GET / HTTP/1.1", "Host: example.org:8080")),
    Valid("9110 7.2", "Host that is IPv6", head("GET / HTTP/1.1", "Host: [2001:db8::1]:80")),
    Valid("9110 7.2", "Host that is empty", head("GET / HTTP/1.1", "Host:")),
    Valid("9110 7.2", "Host behind other fields", head("GET / HTTP/1.1", "Accept: a", "Host: a")),
    # --- connection
    Valid("9112 9.3", "keep-alive in 1.0", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
    Valid("9112 9.6", "close in 1.1", get("Connection: close")),
    Valid("9110 7.6.1", "a list of options", get("Connection: te, "
                                                 "X-Hop", "X-Hop: 1", "TE: trailers")),
    Valid("9110 7.8", "an offer that is ignored", get("Connection: Upgrade", "Upgrade: h2c")),
    Valid("9110 10.1.1", "an expectation in 1.0", b"POST / HTTP/1.0\r\nExpect: "
                                                  b"100-continue\r\nContent-Length: "
                                                  b"1\r\n\r\na", "POST", body=b"a"),
    # --- content
    Valid("9112 6.2", "Content-Length", post("Content-Length: 5", body=b"hello"), "POST",
    body=b"hello"),
    Valid("9112 6.2", "content that looks like a request", post("Content-Length: 18",
    body=b"GET / HTTP/1.1\r\n\r\n"), "POST", body=b"GET / HTTP/1.1\r\n\r\n"),
    Valid("9110 8.6", "Content-Length of zero", post("Content-Length: 0"), "POST"),
    Valid("9110 9.3.1", "content with GET", get("Content-Length: 2") + b"ab", body=b"ab"),
    Valid("9112 6.3", "POST without content", post(), "POST"),
    # --- chunks
    Valid("9112 7.1", "one chunk", chunked(b"5\r\nhello\r\n0\r\n\r\n"), "POST", body=b"hello"),
    Valid("9112 7.1", "several chunks", chunked(b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"), "POST",
    body=b"abc"),
    Valid("9112 7.1", "digits in both cases",
    chunked(b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"), "POST", body=b"0123456789" * 2),
    Valid("9112 7.1", "leading zeros", chunked(b"0001\r\na\r\n000\r\n\r\n"), "POST", body=b"a"),
    Valid("9112 7.1", "no content at all", chunked(b"0\r\n\r\n"), "POST"),
    Valid("9112 7.1", "line ends within a chunk", chunked(b"4\r\n\r\n\r\n\r\n0\r\n\r\n"), "POST",
    body=b"\r\n\r\n"),
    Valid("9112 7", "the coding in another case", post("Transfer-Encoding: "
                                                       "ChUnKeD", body=b"0\r\n\r\n"), "POST"),
    Valid("9112 7", "a tab behind the coding", post("Transfer-Encoding: "
                                                    "chunked\t", body=b"1\r\na\r\n0\r\n\r\n"),
                                                    "POST", body=b"a"),
    Valid("9110 5.6.1.2", "an empty element before the "
                          "coding", post("Transfer-Encoding: , "
                                         "chunked", body=b"1\r\na\r\n0\r\n\r\n"), "POST",
                                         body=b"a"),
    Valid("9110 5.6.1.2", "empty elements around the coding",
    post("Transfer-Encoding:,\t,chunked \t, ,", body=b"1\r\na\r\n0\r\n\r\n"), "POST", body=b"a"),
    Valid("9112 7.1.1", "an extension", chunked(b"1;a\r\na\r\n0;b=c\r\n\r\n"), "POST", body=b"a"),
    Valid("9112 7.1.1", "a quoted extension", chunked(b'1;a="b;\\"c"\r\na\r\n0\r\n\r\n'), "POST",
    body=b"a"),
    Valid("9112 7.1.2", "a trailer", chunked(b"1\r\na\r\n0\r\nX-Sum: "
                                             b"1\r\n\r\n"), "POST", body=b"a"),
    Valid("9112 7.1.2", "a trailer that would frame", chunked(b"0\r\nContent-Length: "
                                                              b"5\r\nTransfer-Encoding: "
                                                              b"gzip\r\n\r\n"), "POST"),
]  # fmt: skip

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

INVALID = [
    # --- the request line
    Invalid("9110 9.3.6", "CONNECT", head("CONNECT a:443 HTTP/1.1", "Host: a:443"), 501),
    Invalid("9110 9.3.6", "CONNECT in origin form", head("CONNECT / "
                                                         "HTTP/1.1", "Host: a") + SMUGGLED, 501),
    Invalid("9110 9.3.6", "CONNECT in absolute form", head("CONNECT http://a/ "
                                                           "HTTP/1.1", "Host: a"), 501),
    Invalid("9110 9.3.6", "CONNECT with content", head("CONNECT / "
                                                       "HTTP/1.1", "Host: a",
                                                       "Content-Length: 5") + b"hello", 501),
    Invalid("9110 9.3.6", "CONNECT in 1.0", head("CONNECT / HTTP/1.0"), 501),
    Invalid("9110 4.2.4", "a user in the target", head("GET http://user@example.org/ "
                                                       "HTTP/1.1", "Host: example.org")),
    Invalid("9110 4.2.4", "a user and password in the "
                          "target", head("GET http://u:p@b:8/c HTTP/1.1", "Host: b:8")),
    Invalid("9112 2.2", "two empty lines before", b"\r\n\r\n" + get()),
    Invalid("9112 2.2", "a bare LF before", b"\n" + get()),
    Invalid("9112 2.2", "space before the request line", b" " + get()),
    Invalid("9112 2.2", "bare LF behind the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    Invalid("9112 2.2", "bare LF behind a field", b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
    Invalid("9112 2.2", "bare LF at the end of the head", b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    Invalid("9112 2.2", "bare CR in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"),
    Invalid("9112 2.2", "bare CR in the request line", b"GET /\ra HTTP/1.1\r\nHost: a\r\n\r\n"),
    Invalid("9112 2.2", "space before the first field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    Invalid("9112 3", "two spaces behind the method", get(line="GET  / HTTP/1.1")),
    Invalid("9112 3", "two spaces behind the target", get(line="GET /  HTTP/1.1")),
    Invalid("9112 3", "a tab in place of a space", get(line="GET\t/ HTTP/1.1")),
    Invalid("9112 3", "a space at the end", get(line="GET / HTTP/1.1 ")),
    Invalid("9112 3", "a space in the target", get(line="GET /a b HTTP/1.1")),
    Invalid("9112 3", "HTTP/0.9", b"GET /\r\n\r\n"),
    Invalid("9112 3.1", "a method that is no token", get(line="G@T / HTTP/1.1")),
    Invalid("9112 3.1", "an unknown method", get(line="FROBNICATE / HTTP/1.1"), 501),
    Invalid("9110 9.1", "a known method in lower case", get(line="get / HTTP/1.1"), 501),
    Invalid("9112 3.2", "a fragment", get(line="GET /#a HTTP/1.1")),
    Invalid("9112 3.2", "a relative target", get(line="GET a HTTP/1.1")),
    Invalid("9112 3.2", "a control in the target", get(line="GET /\x01 HTTP/1.1")),
    Invalid("9112 3.2", "NUL in the target", get(line="GET /\0 HTTP/1.1")),
    Invalid("9112 3.2", "raw bytes in the target", get(line="GET /\xe9 HTTP/1.1")),
    Invalid("9112 3.2.3", "authority form", get(line="CONNECT a:80 HTTP/1.1"), 501),
    Invalid("9112 3.2.4", "asterisk form with GET", get(line="GET * HTTP/1.1")),
    Invalid("9112 2.3", "a higher minor version", get(line="GET / HTTP/1.2"), 505),
    Invalid("9112 2.3", "HTTP/2", get(line="GET / HTTP/2.0"), 505),
    Invalid("9112 2.3", "a version of two digits", get(line="GET / HTTP/1.10")),
    Invalid("9112 2.3", "a version in lower case", get(line="GET / http/1.1")),
    Invalid("9112 2.3", "another protocol", get(line="GET / HTTPS/1.1")),
    Invalid("9110 4.1", "too long a request line", get(line=f"GET /{'a' * 8192} HTTP/1.1"), 414),
    # --- fields
    Invalid("9112 5", "a line without a colon", get("X")),
    Invalid("9112 5", "a line of nothing but a colon", get(": x")),
    Invalid("9112 5.1", "space before the colon", get("X : y")),
    Invalid("9112 5.1", "tab before the colon", get("X\t: y")),
    Invalid("9112 5.1", "space before the colon of "
                        "Content-Length", post("Content-Length : 35", body=SMUGGLED)),
    Invalid("9112 5.2", "a folded line", get("X: a\r\n b")),
    Invalid("9112 5.2", "a folded Host", b"GET / HTTP/1.1\r\nHost:\r\n a\r\n\r\n"),
    Invalid("9110 5.1", "a name that is no token", get("X(: y")),
    Invalid("9110 5.1", "a name with a quote", get('"X": y')),
    Invalid("9110 5.1", "a name beyond ASCII", get("X\xe9: y")),
    Invalid("9110 5.5", "NUL in a value", get("X: a\0b")),
    Invalid("9110 5.5", "a control in a value", get("X: a\x0bb")),
    Invalid("9110 5.5", "DEL in a value", get("X: a\x7fb")),
    Invalid("9110 5.4", "too many fields", get(*["X: y"] * 200), 431),
    Invalid("9110 5.4", "too long fields", get(f"X: {'a' * 20000}"), 431),
    Invalid("9112 3.2", "no Host in 1.1", b"GET / HTTP/1.1\r\n\r\n"),
    Invalid("9112 3.2", "two Hosts", get("Host: example.org")),
    Invalid("9112 3.2", "two Hosts in 1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    Invalid("9110 7.2", "Host that is a list", head("GET / HTTP/1.1", "Host: a, b")),
    Invalid("9110 7.2", "Host with a path", head("GET / HTTP/1.1", "Host: a/b")),
    Invalid("9110 7.2", "Host with a user", head("GET / HTTP/1.1", "Host: a@b")),
    Invalid("9110 7.2", "Host with a space", head("GET / HTTP/1.1", "Host: a b")),
    Invalid("9110 10.1.1", "an unknown expectation", post("Expect: 200-ok", "Content-Length: 1",
    body=b"a"), 417),
    # --- Content-Length
    Invalid("9110 8.6", "two that differ", post("Content-Length: 0", "Content-Length: 35",
    body=SMUGGLED)),
    Invalid("9110 8.6", "two that are equal", post("Content-Length: 1", "Content-Length: 1",
    body=b"a")),
    Invalid("9110 8.6", "a list", post("Content-Length: 1, 1", body=b"a")),
    Invalid("9110 8.6", "a sign", post("Content-Length: +1", body=b"a")),
    Invalid("9110 8.6", "a negative number", post("Content-Length: -1")),
    Invalid("9110 8.6", "hexadecimal", post("Content-Length: 0x1", body=b"a")),
    Invalid("9110 8.6", "a fraction", post("Content-Length: 1.0", body=b"a")),
    Invalid("9110 8.6", "a space within", post("Content-Length: 1 0", body=b"0123456789")),
    Invalid("9110 8.6", "an underscore", post("Content-Length: 1_0", body=b"0123456789")),
    Invalid("9110 8.6", "nothing", post("Content-Length:")),
    Invalid("9110 8.6", "digits of another script", post("Content-Length: \xb2", body=b"ab")),
    Invalid("9110 8.6", "more than is taken", post("Content-Length: 100000000"), 413),
    Invalid("9110 8.6", "more than a machine counts", post("Content-Length: "
                                                           f"{2**64 + 5}", body=b"hello"), 413),
    # --- Transfer-Encoding
    Invalid("9112 6.1", "with Content-Length", chunked(b"0\r\n\r\n" + SMUGGLED,
    "Content-Length: 5")),
    Invalid("9112 6.1", "with Content-Length before it", post("Content-Length: 5",
    "Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    Invalid("9112 6.1", "in 1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: "
                                  b"chunked\r\n\r\n0\r\n\r\n"),
    Invalid("9112 6.1", "chunked twice", post("Transfer-Encoding: chunked, "
                                              "chunked", body=b"0\r\n\r\n"), 501),
    Invalid("9112 6.1", "chunked in two lines", chunked(b"0\r\n\r\n", "Transfer-Encoding: "
                                                                      "chunked"), 501),
    Invalid("9112 6.3", "chunked is not the last", post("Transfer-Encoding: chunked, "
                                                        "gzip", body=b"0\r\n\r\n"), 501),
    Invalid("9112 6.1", "an unknown coding before it", post("Transfer-Encoding: gzip, "
                                                            "chunked", body=b"0\r\n\r\n"), 501),
    Invalid("9112 7", "identity", post("Transfer-Encoding: "
                                       "identity", "Content-Length: 5", body=b"hello")),
    Invalid("9112 7", "a word like chunked", post("Transfer-Encoding: "
                                                  "xchunked", body=b"0\r\n\r\n"), 501),
    Invalid("9112 7", "chunked with a parameter", post("Transfer-Encoding: "
                                                       "chunked;a=b", body=b"0\r\n\r\n"), 501),
    Invalid("9112 7", "chunked in quotes", post('Transfer-Encoding: '
                                                '"chunked"', body=b"0\r\n\r\n"), 501),
    Invalid("9110 5.6.1.2", "empty elements alone", post("Transfer-Encoding: , ,",
    body=b"0\r\n\r\n"), 501),
    Invalid("9110 5.6.1.2", "an empty line and chunked", post("Transfer-Encoding:",
    "Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 501),
    Invalid("9110 5.6.1.2", "chunked twice with an empty "
                            "element", post("Transfer-Encoding: "
                                            "chunked,,chunked", body=b"0\r\n\r\n"), 501),
    Invalid("9112 6.3", "an empty element, chunked, and a "
                        "length", post("Transfer-Encoding: "
                                       ",chunked\t", "Content-Length: 5", body=b"0\r\n\r\n")),
    Invalid("9112 7", "a tab within chunked", post("Transfer-Encoding: "
                                                   "chun\tked", body=b"0\r\n\r\n"), 501),
    Invalid("9112 5.1", "a tab before the colon", post("Transfer-Encoding\t: "
                                                       "chunked", body=b"0\r\n\r\n")),
    Invalid("9112 5.5", "a bare CR behind the coding", post("Transfer-Encoding: "
                                                            "chunked\r", body=b"0\r\n\r\n")),
    Invalid("9112 7", "another fault behind a tab", post("Transfer-Encoding: "
                                                         "chunked\t", "X Y: z", body=b"0\r\n\r\n")),
    Invalid("9112 7", "nothing", post("Transfer-Encoding:", body=b"0\r\n\r\n"), 501),
    # --- chunks
    Invalid("9112 7.1", "no digits", chunked(b"\r\na\r\n0\r\n\r\n")),
    Invalid("9112 7.1", "a letter beyond f", chunked(b"g\r\na\r\n0\r\n\r\n")),
    Invalid("9112 7.1", "0x", chunked(b"0x1\r\na\r\n0\r\n\r\n")),
    Invalid("9112 7.1", "a plus", chunked(b"+1\r\na\r\n0\r\n\r\n")),
    Invalid("9112 7.1", "a minus", chunked(b"-1\r\na\r\n0\r\n\r\n")),
    Invalid("9112 7.1", "an underscore", chunked(b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n")),
    Invalid("9112 7.1", "a space before the size", chunked(b" 1\r\na\r\n0\r\n\r\n")),
    Invalid("9112 7.1", "a space behind the size", chunked(b"1 \r\na\r\n0\r\n\r\n")),
    Invalid("9112 7.1", "a size that overflows", chunked(b"10000000000000001\r\na\r\n0\r\n\r\n")),
    Invalid("9112 7.1", "bare LF behind the size", chunked(b"1\na\r\n0\r\n\r\n")),
    Invalid("9112 7.1", "bare CR behind the size", chunked(b"1\ra\r\n0\r\n\r\n")),
    Invalid("9112 7.1", "a chunk without its line end", chunked(b"1\r\na0\r\n\r\n")),
    Invalid("9112 7.1", "bare LF behind a chunk", chunked(b"1\r\na\n0\r\n\r\n")),
    Invalid("9112 7.1", "a chunk longer than its size", chunked(b"1\r\nab\r\n0\r\n\r\n")),
    Invalid("9112 7.1", "more than is taken", chunked(b"ffffff\r\n"), 413),
    Invalid("9112 7.1.1", "bare LF within an extension", chunked(b"1;a\nb\r\na\r\n0\r\n\r\n")),
    Invalid("9112 7.1.1", "an extension without a name", chunked(b"1;\r\na\r\n0\r\n\r\n")),
    Invalid("9112 7.1.1", "an open quote", chunked(b'1;a="b\r\na\r\n0\r\n\r\n')),
    Invalid("9112 7.1.1", "an endless extension",
    chunked(b"1;" + b"a" * 1000 + b"\r\na\r\n0\r\n\r\n")),
    Invalid("9112 7.1.2", "a trailer without a colon", chunked(b"0\r\nX\r\n\r\n")),
    Invalid("9112 7.1.2", "space before the colon of a trailer", chunked(b"0\r\nX : y\r\n\r\n")),
    Invalid("9112 7.1.2", "bare LF behind a trailer", chunked(b"0\r\nX: y\n\r\n")),
    Invalid("9112 7.1.2", "endless trailers", chunked(b"0\r\n" + b"X: y\r\n" * 5000), 431),
]  # fmt: skip

TWICE_INVALID = [
    Invalid(
        "9112 5.2",
        "a folded Transfer-Encoding",
        post("Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"),
        501,
    ),
    Invalid(
        "9112 7",
        "a vertical tab before chunked",
        post("Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"),
        501,
    ),
]
"""Those with two faults get 400 for the other one if it is found first."""

UNFINISHED = [
    Invalid("9112 8", "a part of the request line", b"GET / HT"),
    Invalid("9112 8", "a part of the fields", b"GET / HTTP/1.1\r\nHost: a\r\n"),
    Invalid("9112 8", "a part of the content", post("Content-Length: 5", body=b"hell")),
    Invalid("9112 8", "a part of a chunk", chunked(b"5\r\nhell")),
    Invalid("9112 8", "no last chunk", chunked(b"1\r\na\r\n")),
    Invalid("9112 8", "no end behind the last chunk", chunked(b"1\r\na\r\n0\r\n")),
]
"""What is invalid because the client has finished."""
