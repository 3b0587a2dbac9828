"""tcp and udp: no framing. A message is the bytes of one read, or one datagram."""

from __future__ import annotations

from gworker.core import register_framing
from gworker.protocols.base import EOF, NEED_DATA
from gworker.protocols.buffered import BufferedProtocol, to_bytes


class TcpProtocol(BufferedProtocol):
    """Messages are `bytes` as read; sends bytes-like objects, and str as UTF-8."""

    __slots__ = ()

    name = "tcp"

    has_pending = BufferedProtocol.has_pending

    def next_event(self) -> object:
        data = self._buffer
        if data:
            self._buffer = b""
            return data if type(data) is bytes else bytes(data)
        return EOF if self._ended else NEED_DATA

    @property
    def encoding(self) -> type:
        return type(self)

    def encode(self, message: object) -> bytes:
        return message if type(message) is bytes else to_bytes(message, "tcp")


class UdpProtocol(TcpProtocol):
    """A message is one datagram."""

    __slots__ = ()

    name = "udp"


register_framing("tcp", TcpProtocol)
