"""Answers whose status and fields an application has given as a list (`PreparedAnswer`), as bytes.

The framing is the protocol's: Content-Length is believed as far as it can be, and the other fields
that are about one connection (RFC 9110 section 7.6.1) are not sent. The application's Date counts.
"""

from __future__ import annotations

from gworker.core import PreparedAnswer
from gworker.protocols.http.response import has_content

# wsgiref.util.is_hop_by_hop, and Content-Length.
FRAMING = frozenset(
    {
        "connection", "content-length", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "te", "trailers", "transfer-encoding", "upgrade",
    }
)  # fmt: skip


class PreparedHead:
    """The head of an answer, to be finished. Raises ValueError for a length that is none.

    length: of the content, as the application says; None: it does not. closes: it wants the
    connection to end.
    """

    __slots__ = ("_lines", "closes", "has_date", "length", "status")

    def __init__(self, answer: PreparedAnswer) -> None:
        self.status = int(answer.status[:3])
        self.length: int | None = None
        self.closes = self.has_date = False
        lines, dropped = [f"HTTP/1.1 {answer.status}"], []
        for name, value in answer.fields:
            lower = name.lower()
            if lower not in FRAMING:
                lines.append(f"{name}: {value}")
                self.has_date = self.has_date or lower == "date"
            elif lower == "content-length":
                self.length = _length(value)
            elif lower == "connection":
                self.closes = "close" in [each.strip(" \t") for each in value.lower().split(",")]
            else:
                dropped.append(name)
        if dropped:
            answer.dropped(dropped)
        self._lines = lines

    @property
    def has_content(self) -> bool:
        return has_content(self.status)

    def encode(self, length: int | None, chunked: bool, standing: bytes) -> bytes:
        """Its bytes. length: None: it is not said. standing: the fields of the protocol."""
        lines = self._lines
        if self.status == 205:
            length = 0
        if self.status >= 200 and self.status != 204:
            if length is not None:
                lines.append(f"Content-Length: {length}")
            elif chunked:
                lines.append("Transfer-Encoding: chunked")
        return "\r\n".join([*lines, ""]).encode("latin-1") + standing + b"\r\n"


def _length(value: str) -> int:
    value = value.strip(" \t")
    if not (value.isascii() and value.isdigit()):
        raise ValueError(f"a Content-Length is a number, not {value!r}")
    return int(value)
