"""The socket of a dialled UDP connection."""

from __future__ import annotations

from gworker.connection.transport import Transport

BATCH = 64  # datagrams read per turn of the event loop


class DatagramTransport(Transport):
    """A connected UDP socket: each read is one datagram, and nothing waits to be sent."""

    __slots__ = ()

    kind = "udp"
    unacknowledged = 0  # what was sent is gone

    def on_readable(self) -> None:
        owner = self._owner
        for _ in range(BATCH):
            try:
                data = self._socket.recv(65535)
            except BlockingIOError:
                break
            except OSError as error:
                owner.datagram_refused(error.strerror or str(error))
                break  # in on_error it may have been closed, or have got another socket
            self.bytes_read += len(data)
            self._server.bytes_read += len(data)
            owner.datagram_received(data)
            if self.pause_reasons:
                break
        owner.datagrams_received()

    def write(self, data: bytes) -> bool:
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            self._owner.datagram_refused("send buffer full and drop package")
            return False
        except OSError as error:
            self._owner.datagram_refused(error.strerror or str(error))
            return False
        self.bytes_written += sent
        self._server.bytes_written += sent
        return True

    def write_parts(self, head: bytes, body: bytes) -> bool:
        return self.write(head + body)  # one datagram

    def close(self) -> None:
        self.abort()  # nothing waits, and nothing lingers
