"""The head of an HTTP/1.x request: limits and strictness.

A head is checked as bytes, whole: httptools (llhttp, all leniencies off) judges the syntax, and the
rules that it leaves out are added here. Where RFC 9112 lets a server choose between guessing and
refusing, we refuse: a proxy in front of us may have guessed differently, and the difference is a
smuggled request.

    check_partial(buffer, scanned)   raises as soon as an incomplete head cannot become a good one
    parse_head(raw, max_body)        raw ends with the empty line; returns what the framing needs

Both raise ProtocolError with the complete reply. `HeadProtocol` is what begins with such a head.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import httptools

from gworker.core.fields import TCHAR
from gworker.core.request import MAX_FIELDS, MAX_HEADERS, MAX_LINE
from gworker.errors import ProtocolError
from gworker.http.errors import RefusedRequest
from gworker.protocols.buffered import BufferedProtocol

# Bytes of a head that did not become whole which are kept.
MAX_PARTIAL = 2048

_TCHAR = TCHAR.encode()
_ANY_VERSION = re.compile(_TCHAR + rb"+ \S+ HTTP/[0-9]\.[0-9]")
_VERSIONS = (b"HTTP/1.1", b"HTTP/1.0")
_TOKEN = re.compile(_TCHAR + rb"+ ")
_METHOD_BEGINS = re.compile(_TCHAR + rb"{1,32}(?: |\Z)")

# Controls, bare LF, bare CR (RFC 9112 section 2.2) and folded lines (5.2): no head contains them.
_IMPOSSIBLE = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)|\n[ \t]")

_NAMES = frozenset(
    {b"host", b"content-length", b"content-type", b"transfer-encoding", b"connection", b"expect"}
)
# The fields that decide about framing. In a head that llhttp accepts no line begins elsewhere than
# after LF, and no name ends elsewhere than at its colon.
_DECISIVE = re.compile(rb"\n(" + b"|".join(sorted(_NAMES)) + rb"):([^\r\n]*)", re.IGNORECASE)

# RFC 3986 section 3.2.2 without the comma, which only ever comes from two joined fields.
_HOST = re.compile(
    rb"(?:(?:[a-z0-9._~!$&'()*+;=-]|%[0-9a-f]{2})*|\[[0-9a-f:.]+\])(?::[0-9]{0,5})?", re.IGNORECASE
)

# With a host (RFC 9110 section 4.2.1), which is judged as Host is. So a user before it is an error
# (section 4.2.4).
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?:][^/?]{0,299})(?:[/?]|\Z)", re.IGNORECASE)

_TRANSFER_ENCODING = re.compile(rb"(\ntransfer-encoding:)[^\r\n]*", re.IGNORECASE)


class Head:
    """What the framing of one exchange needs from its request. Not changed once it is made."""

    __slots__ = (
        "chunked",
        "expects_continue",
        "is_multipart",
        "is_plain",
        "keep_alive",
        "length",
        "method",
        "old",
    )

    def __init__(self, method: bytes, old: bool) -> None:
        self.method = method
        self.old = old  # HTTP/1.0
        self.keep_alive = not old
        self.length = 0
        self.chunked = False
        self.expects_continue = False
        self.is_multipart = False
        self.is_plain = True  # no body, and no offer to switch protocols


# The shared Heads of requests without a field that matters here.
_PLAIN = {
    (method, version): Head(method, version == _VERSIONS[1])
    for method in (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")
    for version in _VERSIONS
}

# By method: of the requests that `gworker.core.parse_request` takes.
SIMPLE_HEADS = {method: head for (method, _), head in _PLAIN.items() if not head.old}


def check_partial(buffer: bytes | bytearray, scanned: int) -> None:
    """Judge the beginning of a head, of which the first `scanned` bytes were judged before."""
    bad = _IMPOSSIBLE.search(buffer, max(scanned - 1, 0))
    if bad:
        raise RefusedRequest(f"forbidden byte {bytes(bad[0])!r} in the head of the request")
    line = buffer.find(b"\n") + 1
    if not line:
        _check_partial_line(buffer)
        return
    if scanned < line:
        _request_line(bytes(buffer[: line - 2]))
    if len(buffer) - line > MAX_HEADERS:
        raise RefusedRequest(f"header fields longer than {MAX_HEADERS} bytes", 431)
    if buffer.find(b"\n", scanned) >= 0 and buffer.count(b"\n") > MAX_FIELDS + 1:
        raise RefusedRequest(f"more than {MAX_FIELDS} header fields", 431)


def _check_partial_line(buffer: bytes | bytearray) -> None:
    if len(buffer) > MAX_LINE + 1:  # the last byte may be the CR of its end
        raise RefusedRequest(f"request line longer than {MAX_LINE} bytes", 414)
    if not _METHOD_BEGINS.match(buffer):
        raise RefusedRequest("malformed request line")


# No head is remembered: keys and cookies would stay in memory, and clients that vary what they send
# gain nothing.
def parse_head(raw: bytes, max_body: int = sys.maxsize) -> Head:
    """Return the facts of a head. 413 if it announces more than `max_body` bytes."""
    line, _, rest = raw.partition(b"\r\n")
    head = _request_line(line)
    if len(rest) > MAX_HEADERS:
        raise RefusedRequest(f"header fields longer than {MAX_HEADERS} bytes", 431)
    count = rest.count(b"\n") - 1
    if count > MAX_FIELDS:
        raise RefusedRequest(f"more than {MAX_FIELDS} header fields", 431)
    is_done = False
    try:
        try:
            _shared.parser.feed_data(raw)
            is_clean = len(_fields) == count > 0
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            is_clean = False
        if not is_clean:  # a fault, or a repeated field, or a parser that another head has spoiled
            _shared.renew()
        hosts = 0
        others: dict[bytes, list[bytes]] = {}
        for spelling, value in _fields.items() if is_clean else _DECISIVE.findall(raw):
            name = spelling.lower()
            if name not in _NAMES:
                continue
            if name == b"host":
                hosts += 1
                if len(value) > 300 or not _HOST.fullmatch(value.strip(b" \t")):
                    raise RefusedRequest("invalid Host")
            else:
                others.setdefault(name, []).append(value.strip(b" \t").lower())
        if hosts != 1 and (hosts or not head.old):
            raise RefusedRequest(f"{hosts or 'no'} Host fields")
        if others:
            head = _apply(head, others, max_body)
        if not is_clean:
            # httptools knows neither a tab behind the coding nor empty elements of the list.
            _judge(_TRANSFER_ENCODING.sub(rb"\1 chunked", raw) if head.chunked else raw)
        is_done = not (head.length or head.chunked) and head.keep_alive
    finally:
        _fields.clear()
        if not is_done:  # the parser waits for a body, also of what is refused, or for nothing more
            _shared.renew()
    return head


def _request_line(line: bytes) -> Head:
    # Return the facts of a request line, or refuse it. RFC 9112 section 3: single spaces, and no
    # lenience. What a method and a target may contain is left to httptools, except for "#", which
    # is never sent (section 3.2).
    parts = line.split(b" ")
    if len(parts) != 3 or parts[2] not in _VERSIONS or len(line) > MAX_LINE or 0x23 in line:
        raise _bad_request_line(line)
    method, target, version = parts
    head = _PLAIN.get((method, version)) or _unusual_method(method, version)
    if target[:1] != b"/":
        _check_target(method, target)
    return head


def _unusual_method(method: bytes, version: bytes) -> Head:
    if method == b"CONNECT":
        # A method that a server does not implement for any resource is 501 (RFC 9110 section 9.1);
        # 405 would promise that other resources take it.
        raise RefusedRequest("this server opens no tunnels", 501)
    return Head(method, version == _VERSIONS[1])


def _bad_request_line(line: bytes) -> ProtocolError:
    if len(line) > MAX_LINE:
        return RefusedRequest(f"request line longer than {MAX_LINE} bytes", 414)
    if _ANY_VERSION.fullmatch(line) and not line.endswith(_VERSIONS):
        return RefusedRequest("only HTTP/1.0 and HTTP/1.1 are spoken here", 505)
    return RefusedRequest("malformed request line")


def _check_target(method: bytes, target: bytes) -> None:
    # Every form but "/path" (RFC 9112 section 3.2).
    if target == b"*" and method == b"OPTIONS":
        return
    absolute = _ABSOLUTE_FORM.match(target)
    if absolute is None or not _HOST.fullmatch(absolute[1]):
        raise RefusedRequest("malformed request target")


def _apply(plain: Head, fields: dict[bytes, list[bytes]], max_body: int) -> Head:
    head = Head(plain.method, plain.old)
    lengths = fields.get(b"content-length")
    codings = fields.get(b"transfer-encoding")
    if codings:
        _apply_transfer_encoding(head, codings, lengths)
    elif lengths:
        _apply_content_length(head, lengths, max_body)
    if b"connection" in fields:
        options = {option.strip(b" \t") for option in b",".join(fields[b"connection"]).split(b",")}
        head.keep_alive = b"close" not in options and (not head.old or b"keep-alive" in options)
        head.is_plain = b"upgrade" not in options
    if b"expect" in fields and not head.old:  # RFC 9110 section 10.1.1: ignored in HTTP/1.0
        if not _is_only(fields[b"expect"], b"100-continue"):
            raise RefusedRequest("the only expectation met here is 100-continue", 417)
        head.expects_continue = True
    if head.length or head.chunked:
        head.is_plain = False
        head.is_multipart = fields.get(b"content-type", [b""])[0].startswith(b"multipart/")
    return head


def _apply_transfer_encoding(head: Head, codings: list[bytes], lengths: list[bytes] | None) -> None:
    # RFC 9112 section 6.1 allows to refuse both combinations, and 6.3 says why one should.
    if head.old:
        raise RefusedRequest("Transfer-Encoding in HTTP/1.0")
    if lengths:
        raise RefusedRequest("Transfer-Encoding and Content-Length together")
    if not _is_only(codings, b"chunked"):
        raise RefusedRequest("the only transfer coding understood is chunked", 501)
    head.chunked = True


def _is_only(lines: list[bytes], element: bytes) -> bool:
    # True if a field is one line, a list of this element alone. Empty elements do not count (RFC
    # 9110 section 5.6.1.2).
    return len(lines) == 1 and [
        each for part in lines[0].split(b",") if (each := part.strip(b" \t"))
    ] == [element]


def _apply_content_length(head: Head, lengths: list[bytes], max_body: int) -> None:
    # Exactly one field of digits. RFC 9110 section 8.6 allows a list of equal numbers, and to
    # refuse it.
    if len(lengths) != 1 or not lengths[0].isdigit():
        raise RefusedRequest("invalid Content-Length")
    if len(lengths[0]) > 19 or int(lengths[0]) > max_body:
        raise RefusedRequest(f"body longer than {max_body} bytes", 413)
    head.length = int(lengths[0])


# httptools puts the fields of a head into a dict, without a call into Python for each.
_fields: dict[bytes, bytes] = {}
_listener = SimpleNamespace(on_header=_fields.setdefault)


class _SharedParser:
    # One parser serves all connections of the process (573 bytes each would be dear): heads are fed
    # whole, and nothing can interrupt it in between. It is never believed when it refuses, nor when
    # it reports another number of fields than there are lines: the request of another connection
    # could have left it in a state that we do not know of, such as after `Proxy-Connection: close`,
    # when llhttp wants nothing more.

    __slots__ = ("parser",)

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        # Replace the parser, which may not be at the beginning of a request.
        self.parser = httptools.HttpRequestParser(_listener)


_shared = _SharedParser()


def _judge(raw: bytes) -> None:
    # Let a new parser judge `raw`. Its result counts.
    completed: list[bool] = []
    listener = SimpleNamespace(on_headers_complete=partial(completed.append, True))
    try:
        httptools.HttpRequestParser(listener).feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # an offer that we may ignore (RFC 9110 section 7.8)
    except httptools.HttpParserInvalidMethodError:
        if not _TOKEN.match(raw):
            raise RefusedRequest("malformed request line") from None
        raise RefusedRequest("unknown method", 501) from None
    except httptools.HttpParserError as error:
        raise _refusal_of(error) from None
    if not completed:
        raise RefusedRequest("malformed head")


def _refusal_of(error: httptools.HttpParserError) -> ProtocolError:
    # A variable in the function that raises it would make a cycle, which keeps the head until
    # garbage is collected.
    made = RefusedRequest(str(error))
    made.kind = str(error)
    return made


class HeadProtocol(BufferedProtocol):
    """Cuts off the head. An incomplete one is judged while it arrives, and never exceeds its
    limits.

    Subclasses have the attributes: a WebSocket needs them at its beginning only.

    origin: where requests come from; set by the driver. _scanned: bytes of an incomplete head that
    were judged. raw_head: the head of the request that is to be answered, or as much of one as
    there was when it was refused.
    """

    __slots__ = ()

    over_datagrams = False

    # Any, as they may be slots or properties.
    _options: Any  # Mapping[str, Any]
    _scanned: Any  # int
    origin: Any  # RequestOrigin
    raw_head: Any  # bytes

    def configure(self, options: Mapping[str, Any]) -> None:
        self._options = options

    def _keep_partial_head(self) -> None:
        # The access log shows what was refused.
        if not self.raw_head:
            self.raw_head = bytes(self._buffer[self._pos : self._pos + MAX_PARTIAL])

    def _next_head(self) -> bytes | None:
        # The next head with its empty line, None if it is incomplete. Raises RefusedRequest as soon
        # as it cannot become a good one.
        buffer, pos = self._buffer, self._pos
        end = buffer.find(b"\r\n\r\n", pos + self._scanned - 3 if self._scanned > 3 else pos)
        if end >= 0:
            raw = bytes(buffer[pos : end + 4])
            self._scanned = 0
            self._consume(end + 4)
            return raw
        if self._ended and buffer:
            raise RefusedRequest("the request ended within its head")
        self._wait()
        if buffer:
            check_partial(self._buffer, self._scanned)
        self._scanned = len(self._buffer)
        return None
