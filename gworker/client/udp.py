"""A dialled UDP connection, and its socket."""

from __future__ import annotations

import logging

from gworker.client.connection import ClientConnection
from gworker.connection.context import QUEUE_MESSAGES
from gworker.connection.receiving import count_unread
from gworker.connection.state import PauseReason
from gworker.connection.transport import Transport
from gworker.core.poller import Job
from gworker.errors import ProtocolError
from gworker.protocols.lockstep import messages

log = logging.getLogger("gworker")

BATCH = 64  # datagrams read per turn of the event loop


class DatagramTransport(Transport):
    """A connected UDP socket: each read is one datagram, and nothing waits to be sent."""

    __slots__ = ()

    kind = "udp"
    unacknowledged = 0  # what was sent is gone

    def on_ready(self, events: int) -> Job | None:
        owner = self._owner
        for _ in range(BATCH):
            if self.pause_reasons:
                break
            try:
                data = self._socket.recv(65535)
            except BlockingIOError:
                break
            except OSError as error:
                owner.reject_send(error.strerror or str(error))
                self.read_on()  # datagrams may be behind it
                break  # in on_error it may have been closed, or have got another socket
            self.bytes_read += len(data)
            self._server.bytes_read += len(data)
            owner.datagram_received(data)
        else:
            self.read_on()  # there may be more
        job: Job | None = owner.datagrams_received()
        return job

    def write(self, data: bytes) -> bool:
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            return bool(self._owner.reject_send("send buffer full and drop package"))
        except OSError as error:
            return bool(self._owner.reject_send(error.strerror or str(error)))
        self.bytes_written += sent
        self._server.bytes_written += sent
        return True

    def write_parts(self, head: bytes, body: bytes) -> bool:
        return self.write(head + body)  # one datagram

    def close(self) -> None:
        self.abort()  # nothing waits, and nothing lingers


class DatagramClient(ClientConnection):
    """UDP: a connected socket. Each datagram is taken apart by a protocol of its own; `send` sends
    one.

    What the kernel does not take at once is refused, as there is no flow to hold back. An ICMP
    error for what was sent (nothing listens there) is on_error(SEND_FAIL); the connection stays.
    """

    __slots__ = ()

    def datagram_received(self, data: bytes) -> None:
        job = self.event_job
        if job is not None and job.greenlet is not None:
            count_unread(self, len(data))
        self._take_datagram(data)
        job = self.event_job
        if job is not None and len(job.events) >= QUEUE_MESSAGES:
            self.io.pause(PauseReason.BACKPRESSURE)

    def datagrams_received(self) -> Job | None:
        job = self.event_job
        return job if job is not None and job.events and job.greenlet is None else None

    def _take_datagram(self, data: bytes) -> None:
        if not data:  # a protocol would take it for the end
            self.enqueue(b"")
            return
        try:
            protocol = self.connector.plan.protocol(self.max_package_size)
            self.configure(protocol)
            protocol.receive_data(data)
            for message in messages(protocol):
                self.enqueue(message)
        except ProtocolError as error:
            log.info("%r: %s", self, error)
        except BaseException:
            self.server_context.report_exception("%r: exception in its protocol", self)
