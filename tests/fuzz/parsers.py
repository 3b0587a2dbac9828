"""The targets that are no protocols: headers before and besides them, and what is read out of
requests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final

from gworker.config.trusted_proxies import Trust
from gworker.errors import ProtocolError
from gworker.http import Request, Response
from gworker.http.errors import BadRequest
from gworker.http.forwarded import Origin
from gworker.http.streaming import StreamedBody
from gworker.protocols.proxies import haproxy
from gworker.protocols.proxies.http_connect import HttpConnect
from gworker.protocols.proxies.socks5 import Socks5

PROXIES: Final = Trust("10.0.0.0/8,::1")


def proxy(data: bytes) -> None:
    """However much of a header has come, the verdict on it does not change when more comes."""
    verdict: Any = None
    for size in range(len(data) + 1):
        try:
            now: Any = haproxy.parse(data[:size])
        except ProtocolError:
            now = ProtocolError
        if verdict is not None and now != verdict:
            raise AssertionError(f"after {size} bytes {now}, before {verdict}")
        if now is not None and now is not ProtocolError and not 0 < now.size <= size:
            raise AssertionError(f"{now} of {size} bytes")
        verdict = now
        if size > haproxy.FIXED + haproxy.MAX_REST and verdict is None:
            raise AssertionError("it never ends")


def dialogue(make: Callable[[], Any]) -> Callable[[bytes], None]:
    """The dialogue with a proxy that we dial through: cut anywhere, it takes the same and says the
    same."""

    def talk(data: bytes, size: int) -> tuple[object, ...]:
        machine, said, taken = make(), b"", 0
        try:
            for at in range(0, len(data), size):
                piece = data[at : at + size]
                said += machine.data_to_send()
                used = machine.take(piece)
                if not 0 <= used <= len(piece):
                    raise AssertionError(f"it took {used} of {len(piece)} bytes")
                taken += used
                if machine.is_done:
                    break
        except ProtocolError:
            return (ProtocolError,)
        return said + machine.data_to_send(), taken, machine.is_done

    def fuzz(data: bytes) -> None:
        whole = talk(data, max(1, len(data)))
        for size in (1, 5):
            if talk(data, size) != whole:
                raise AssertionError(f"in pieces of {size}: {talk(data, size)}, whole: {whole}")

    return fuzz


def request(data: bytes) -> None:
    """Whatever is asked of a request, the client's fault is a BadRequest."""
    fields, _, body = data.partition(b"\n\n")
    lines = b"\r\n".join(
        line.replace(b"\r", b"").replace(b"\0", b"") for line in fields.split(b"\n")
    )
    head = b"POST /%b HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % (
        lines.partition(b"\r\n")[0].replace(b" ", b"+"),
        lines,
    )
    asked = Request(head, body, origin=Origin(("10.0.0.1", 1), PROXIES))
    for what in (
        "path",
        "query",
        "headers",
        "cookies",
        "client_ip",
        "scheme",
        "host",
        "content_type",
        "is_websocket",
    ):
        getattr(asked, what)
    for what in ("text", "form", "files", "json"):
        with contextlib.suppress(ValueError):  # a BadRequest is one
            found = getattr(asked, what)
            found = found() if what == "json" else found
    with contextlib.suppress(BadRequest):
        asked.parse_form(max_size=200, max_parts=3).close()


def form(data: bytes) -> None:
    """A multipart body, in a request that announces it."""
    head = b'POST / HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary="b"\r\n\r\n'
    try:
        found = Request(head, data).parse_form(max_parts=5)
    except BadRequest:
        return
    if sum(map(len, found.fields.values())) + sum(file.size for _, file in found.files) > len(data):
        raise AssertionError("it holds more than was sent")
    found.close()


def file(data: bytes) -> None:
    """Conditions and ranges for a file: some answer, of as many bytes as it says."""
    fields = b"\r\n".join(
        line.replace(b"\r", b"").replace(b"\0", b"") for line in data.split(b"\n")
    )
    asked = Request(b"GET / HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n\r\n")
    answer = Response.file(__file__)
    if isinstance(answer.body, StreamedBody):
        answer.body.resolve(asked, answer)
    if answer.status not in (200, 206, 304, 412, 416):
        raise AssertionError(f"status {answer.status}")
    if isinstance(answer.body, StreamedBody):
        size = sum(map(len, answer.body.parts()))
        if answer.body.length != size:
            raise AssertionError(f"{size} bytes, {answer.body.length} were announced")


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "proxy_header": proxy,
    "socks5": dialogue(lambda: Socks5("example.org", 80, "user", "secret")),
    "http_connect": dialogue(lambda: HttpConnect("example.org", 80, "user", "secret")),
    "request": request,
    "form": form,
    "file": file,
}
