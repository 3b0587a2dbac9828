"""The client's end of a WebSocket (RFC 6455 section 4.1): it asks, and masks what it sends.

The request is the first thing in `data_to_send()`; the answer gives the event `Opened`, or a
ProtocolError that says what was wrong with it.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from http import HTTPStatus
from secrets import token_bytes

from gworker.errors import ProtocolError
from gworker.http.headers import Headers, HeaderSource, tokens
from gworker.http.response import Response
from gworker.http.upgrade import EXTENSIONS, SUBPROTOCOL, accept_of, check_token
from gworker.protocols.base import Opened
from gworker.protocols.websocket.extensions import check_answer, offer
from gworker.protocols.websocket.frames import masked_frame
from gworker.protocols.websocket.machine import Phase, WebSocketMachine
from gworker.protocols.websocket.options import compression as checked

# Bytes of the server's answer.
MAX_HEAD = 65536

# Path and query (section 3), without a fragment.
_TARGET = re.compile(r"/[\x21\x22\x24-\x7e]*")
_HOST = re.compile(r"[\x21-\x7e]+")
_STATUS_LINE = re.compile(r"HTTP/1\.1 ([0-9]{3})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_OURS = frozenset({"host", "upgrade", "connection", "origin"})


class WebSocketClient(WebSocketMachine):
    """The client's end.

    host: what the Host field says, with a port that is not the scheme's own. target: path and
    query, encoded.
    subprotocols: those offered, in order of preference. origin: for servers that ask for one.
    headers: further fields. compression: as the option of a Worker, here what to offer. ValueError
    for what cannot stand in a request.
    """

    __slots__ = ("_compression", "_key", "_opening", "_subprotocols")

    peer_masks = False
    _frame = staticmethod(masked_frame)

    def __init__(
        self,
        max_package_size: int,
        host: str,
        target: str = "/",
        *,
        subprotocols: Iterable[str] = (),
        origin: str | None = None,
        headers: HeaderSource = (),
        compression: object = True,
    ) -> None:
        super().__init__(max_package_size)
        self._key = b64encode(token_bytes(16))
        self._subprotocols = tuple(check_token(name) for name in subprotocols)
        self._compression = checked(compression)
        self._opening = self._request(host, target, origin, Headers(headers))
        self.has_output = True

    # --- the opening handshake

    def _request(self, host: str, target: str, origin: str | None, extra: Headers) -> bytes:
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host!r} is no host of a WebSocket")
        if not _TARGET.fullmatch(target):
            raise ValueError(
                f"{target!r} is no path of a WebSocket: it begins with / and is percent-encoded"
            )
        taken = [
            name
            for name in extra
            if name.lower() in _OURS or name.lower().startswith("sec-websocket-")
        ]
        if taken:
            raise ValueError(f"the handshake sets {', '.join(sorted(taken))} itself")
        fields = Headers({"Host": host, "Upgrade": "websocket", "Connection": "Upgrade"})
        if origin is not None:
            fields["Origin"] = origin
        fields["Sec-WebSocket-Version"] = "13"
        fields["Sec-WebSocket-Key"] = self._key.decode()
        if self._subprotocols:
            fields[SUBPROTOCOL] = ", ".join(self._subprotocols)
        if self._compression is not None:
            fields[EXTENSIONS] = offer(self._compression)
        return b"".join(
            (b"GET %b HTTP/1.1\r\n" % target.encode(), fields.encode(), extra.encode(), b"\r\n")
        )

    def _read_opening(self) -> object:
        end = self._buffer.find(b"\r\n\r\n", self._pos)
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise ProtocolError(
                    f"the server's answer to the handshake is longer than {MAX_HEAD} bytes"
                )
            if self._ended:
                raise ProtocolError(
                    "the server closed the connection before it had answered the handshake"
                )
            return self._wait()
        head = bytes(self._buffer[self._pos : end + 4])
        self._consume(end + 4)
        response = _parse(head)
        self._check(response)
        self._begin()
        self.has_output = bool(self._output)
        return Opened(response)

    def _check(self, response: Response) -> None:
        # Section 4.1, from "Once the client's opening handshake has been sent". Raises
        # ProtocolError.
        headers = response.headers
        if "websocket" not in tokens(headers, "Upgrade"):
            raise ProtocolError("the server answered 101 without Upgrade: websocket")
        if "upgrade" not in tokens(headers, "Connection"):
            raise ProtocolError("the server answered 101 without Connection: Upgrade")
        if headers.get_all("Sec-WebSocket-Accept") != [accept_of(self._key).decode()]:
            given = headers.get("Sec-WebSocket-Accept")
            raise ProtocolError(
                f"the server's Sec-WebSocket-Accept {given!r} does not answer our key"
            )
        extensions = headers.get(EXTENSIONS, "")
        try:
            self._deflate = check_answer(extensions, self._compression)
        except ValueError as error:
            raise ProtocolError(
                f"the server's extensions {extensions!r} cannot be used: {error}"
            ) from None
        chosen = headers.get_all(SUBPROTOCOL)
        if chosen and (len(chosen) > 1 or chosen[0] not in self._subprotocols):
            raise ProtocolError(
                f"the server chose the subprotocol {', '.join(chosen)!r}, which was not offered"
            )
        self.subprotocol = chosen[0] if chosen else ""

    def data_to_send(self) -> bytes:
        if self._opening:
            data, self._opening = self._opening, b""
            self.has_output = False
            return data
        return super().data_to_send()

    def timed_out(self) -> bytes:
        if self._phase is Phase.HANDSHAKE:
            self._end()
        return b""


def _parse(head: bytes) -> Response:
    # The 101 that the server answered. Raises ProtocolError for anything else.
    line, _, rest = head.decode("latin-1").partition("\r\n")
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise ProtocolError(f"the server does not speak HTTP/1.1, it answered {line[:100]!r}")
    if match[1] != "101":
        usual = (each.phrase for each in HTTPStatus if each == int(match[1]))
        reason = match[2] or next(usual, "")
        raise ProtocolError(f"the server answered {match[1]} {reason}".rstrip())
    headers = Headers()
    for field in rest.split("\r\n")[:-2]:
        name, colon, value = field.partition(":")
        if not colon:
            raise ProtocolError(
                f"the server's answer has the line {field[:100]!r}, which has no colon"
            )
        try:
            headers.add(name, value.strip(" \t"))
        except ValueError as error:
            raise ProtocolError(
                f"the server's answer has the field {field[:100]!r}: {error}"
            ) from None
    return Response(b"", 101, headers)
