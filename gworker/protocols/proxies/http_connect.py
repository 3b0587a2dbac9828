"""http_connect: asking an HTTP proxy for a tunnel, the client's side (RFC 9110, 9.3.6; Basic: RFC
7617).

Its driver calls it as `socks5`.
"""

from __future__ import annotations

import base64
import re

from gworker.errors import ProtocolError

# Bytes of the proxy's answer up to its empty line.
MAX_HEAD = 65536

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: ([^\r\n]*))?\r?\n")
_END = re.compile(rb"\r?\n\r?\n")


class HttpConnect:
    """One request for a tunnel to `host` and `port`. user: None sends no credentials.

    Raises ValueError for what the request cannot carry.
    """

    def __init__(self, host: str, port: int, user: str | None = None, password: str = "") -> None:
        self.is_done = False
        authority = _authority(host, port)
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if user is not None:
            if ":" in user:
                raise ValueError("the user of an HTTP proxy has no colon (RFC 7617, 2)")
            credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
            lines.append(f"Proxy-Authorization: Basic {credentials}")
        self._output = "\r\n".join([*lines, "", ""]).encode()
        self._head = bytearray()

    def data_to_send(self) -> bytes:
        output, self._output = self._output, b""
        return output

    def take(self, data: bytes) -> int:
        used = 0
        while not self.is_done and used < len(data):
            used += self._take_head(data[used:])
        return used

    def _take_head(self, data: bytes) -> int:
        # One head, or a part of it: answers of class 1xx come before the one that counts.
        before, head = len(self._head), self._head
        head += data
        if not b"HTTP/1.".startswith(head[:7]):
            raise ProtocolError("the proxy does not answer in HTTP/1")
        end = _END.search(head, max(0, before - 3))
        if end is None:
            if len(head) > MAX_HEAD:
                raise ProtocolError(
                    f"the head of the proxy's answer is longer than {MAX_HEAD} bytes"
                )
            return len(data)
        status = _STATUS.match(head)
        if status is None:
            raise ProtocolError(
                f"the proxy answered {bytes(head[:80])!r}, which is no answer of HTTP/1"
            )
        self._head = bytearray()
        if status[1][0] == ord("2"):
            self.is_done = True
        elif status[1][0] != ord("1") or status[1] == b"101":
            reason = (status[2] or b"").decode("latin-1").strip()
            raise ProtocolError(f"the proxy answered {status[1].decode()} {reason}".rstrip())
        return end.end() - before


def _authority(host: str, port: int) -> str:
    name = host if host.isascii() else host.encode("idna").decode()
    if not name or re.search(r"[\s/@\x00-\x1f\x7f]", name):
        raise ValueError(f"{host!r} is not a host")
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
