"""The TLS socket, in one process: what one end sends, the other reads; ends and errors are told
apart."""

from __future__ import annotations

import _socket
import fcntl
import os
import select
import ssl
import struct
import termios
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gevent import get_hub
from gevent import sleep as gevent_sleep
from pki import Pki
from tls_pair import Pair, server

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.connection.cooperative_socket import cooperative
from gworker.connection.write_buffer import WriteBuffer
from gworker.core.poller import WRITABLE
from gworker.ipc.scoreboard import Scoreboard
from gworker.protocols import get
from gworker.protocols.frame import FrameProtocol
from gworker.tls.socket import RECORD, TlsSocket


def wait_for_bytes(socket: TlsSocket, size: int) -> None:
    """Until so many bytes wait in the kernel."""
    end = time.monotonic() + 10
    while int.from_bytes(fcntl.ioctl(socket, termios.FIONREAD, bytes(4)), "little") < size:
        assert time.monotonic() < end


def test_what_one_sends_the_other_reads(pair: Pair) -> None:
    assert pair.client.send(b"hello") == 5
    assert pair.server.recv(65536) == b"hello"
    with pytest.raises(BlockingIOError):
        pair.server.recv(65536)


def test_a_read_takes_whole_records_and_leaves_none_decrypted(pair: Pair) -> None:
    sent = pair.client.send(bytes(5 * RECORD))
    assert sent == 5 * RECORD
    assert len(pair.server.recv(4 * RECORD)) == 4 * RECORD
    assert pair.server._tls.pending() == 0
    assert len(pair.server.recv(RECORD)) == RECORD
    assert pair.server._tls.pending() == 0


def test_what_the_kernel_does_not_take_goes_through_an_outbox_in_order(pair: Pair) -> None:
    data = b"".join(b"%08d" % number for number in range(300_000))
    sent = pair.server.send(data)
    assert 0 < sent < len(data)
    outbox = WriteBuffer()
    outbox.append(data, sent)
    outbox.append(b"and more")
    got = bytearray()
    while len(got) < len(data) + 8:
        try:
            got += pair.client.recv(65536)
        except BlockingIOError:
            assert outbox.flush(pair.server)
    outbox.close()
    assert bytes(got) == data + b"and more"


@pytest.mark.parametrize("size", [RECORD, RECORD + 1, 3 * RECORD + 5, 4_000_000])
def test_a_large_message_is_not_copied_for_a_peer_that_does_not_read(pair: Pair, size: int) -> None:
    worker = Worker("frame://127.0.0.1:1", name="large")
    board = Scoreboard(1)
    service = ServerContext(worker, Limits(), board.row(board.take()), get_hub().loop)
    connection = Connection(service, pair.server, None, FrameProtocol)
    connection.max_send_buffer_size = 1 << 24
    number = 0
    while not connection.send_queue:  # the kernel takes no more
        connection.send(b"%010d" % number)
        number += 1
    message = os.urandom(size)
    tracemalloc.start()
    assert connection.send(message)
    assert connection.send(message)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 6 * RECORD
    expected = b"".join(struct.pack(">I", 14) + b"%010d" % each for each in range(number))
    expected += (struct.pack(">I", size + 4) + message) * 2
    got = bytearray()
    while len(got) < len(expected):
        try:
            got += pair.client.recv(65536)
        except BlockingIOError:
            connection.io.on_ready(WRITABLE)
    assert bytes(got) == expected
    connection.destroy()


def test_nothing_to_send_is_not_asked_of_openssl(pair: Pair) -> None:
    while True:
        try:
            pair.server.send(bytes(RECORD))
        except BlockingIOError:
            break
    assert pair.server.send(b"") == 0  # SSL_write(3) would take it for a bad retry


def test_nothing_goes_past_tls(pair: Pair) -> None:
    for method in (pair.server.sendall, pair.server.recv_into, pair.server.sendmsg):
        with pytest.raises(TypeError, match="not possible with TLS"):
            method(b"in clear")


def test_a_legacy_handler_can_not_go_past_tls_either(pair: Pair) -> None:
    legacy: Any = cooperative(pair.server)
    legacy.count = lambda read, written: None
    over_tls = {"recv", "recv_into", "send", "sendall", "sendfile", "makefile"}
    refused = {
        name
        for name in dir(legacy)
        if name.startswith(("recv", "send")) or name in ("detach", "dup")
    } - over_tls
    assert {
        "sendmsg",
        "sendto",
        "recvfrom",
        "recvfrom_into",
        "recvmsg",
        "recvmsg_into",
        "detach",
        "dup",
    } <= refused
    with legacy:
        for name in refused:
            with pytest.raises(TypeError, match="not possible with TLS"):
                getattr(legacy, name)(b"in clear")
        legacy.sendall(b"hello")
        assert pair.client.recv(65536) == b"hello"


def test_close_notify_is_an_orderly_end(pair: Pair) -> None:
    pair.client.send(b"last")
    pair.client.shutdown(_socket.SHUT_WR)
    assert pair.server.recv(65536) == b"last"
    assert pair.server.recv(65536) == b""
    assert pair.server.is_over
    assert pair.server.send(b"half-closed") == 11


def test_an_end_without_close_notify_is_an_error(pair: Pair) -> None:
    pair.client.send(b"last")
    pair.client._forget()
    pair.client.close()
    assert pair.server.recv(65536) == b"last"
    with pytest.raises(
        (ssl.SSLEOFError, ConnectionResetError)
    ):  # it has not read our session tickets
        pair.server.recv(65536)


@pytest.mark.parametrize("records", [1, 2, 3])
@pytest.mark.parametrize("family", [_socket.AF_UNIX, _socket.AF_INET])
def test_an_end_behind_full_records_keeps_the_descriptor_readable(
    pki: Pki, files: dict[str, str], records: int, family: int
) -> None:
    pair = Pair(server(files), pki.client(), family=family)
    pair.client.send(bytes(records * RECORD))
    with pytest.raises(ssl.SSLWantReadError):
        pair.client._tls.shutdown()
    wait_for_bytes(pair.server, records * (RECORD + 22) + 24)
    assert len(pair.server.recv(65536)) == records * RECORD
    assert select.select([pair.server], [], [], 0)[0]
    assert pair.server.recv(65536) == b""
    assert pair.server.recv(65536) == b""
    assert pair.server.is_over


def test_an_error_behind_a_full_record_keeps_the_descriptor_readable(pair: Pair) -> None:
    pair.client.send(bytes(RECORD))
    _socket.socket.send(
        pair.client, b"\x17\x03\x03\x00\x20" + bytes(32)
    )  # a record that cannot be decrypted
    assert len(pair.server.recv(65536)) == RECORD
    for _ in range(2):
        assert select.select([pair.server], [], [], 0)[0]
        with pytest.raises(ssl.SSLError):
            pair.server.recv(65536)


def test_closing_answers_close_notify(pair: Pair) -> None:
    with pytest.raises(ssl.SSLWantReadError):
        pair.client._tls.shutdown()
    assert pair.server.recv(65536) == b""
    pair.server.close()
    pair.client._tls.shutdown()  # complete: it would raise if the other's close_notify had not come


def test_a_reset_is_not_announced_as_an_orderly_end(pair: Pair) -> None:
    pair.server.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, bytes(8))
    pair.server.shutdown(_socket.SHUT_WR)
    with pytest.raises(ssl.SSLEOFError):
        pair.client.recv(65536)


def test_what_is_not_tls_is_an_error(pair: Pair) -> None:
    _socket.socket.send(pair.client, b"GET / HTTP/1.1\r\n\r\n" * 10)
    with pytest.raises(ssl.SSLError):
        pair.server.recv(65536)


@pytest.mark.parametrize("size", [0, 1, 2 * RECORD])
def test_after_the_goodbye_nothing_can_be_sent(pair: Pair, size: int) -> None:
    pair.server.shutdown(_socket.SHUT_WR)
    with pytest.raises(BrokenPipeError):
        pair.server.send(bytes(size))


def test_after_the_goodbye_what_comes_is_thrown_away(pair: Pair) -> None:
    pair.server.shutdown(_socket.SHUT_WR)
    pair.client.send(b"too late")
    assert b"too late" not in pair.server.recv(65536)


def test_info_says_what_was_agreed_and_stays(pki: Pki, files: dict[str, str]) -> None:
    options = {**files, "verify": "required", "ca_certs": pki.ca}
    own = (str(pki.directory / "client.pem"), str(pki.directory / "client.key"))
    pair = Pair(server(options, "http/1.1"), pki.client(*own, alpn=["h2", "http/1.1"]))
    info = pair.server.info
    pair.server.close()
    assert info is not None
    assert pair.server.info is info
    assert (info.version, info.alpn, info.sni) == ("TLSv1.3", "http/1.1", "localhost")
    assert info.cipher.startswith("TLS_")
    assert info.peer_cert is not None
    assert ("DNS", "client.example.com") in info.peer_cert["subjectAltName"]
    assert info.peer_cert_der is not None
    assert ssl.DER_cert_to_PEM_cert(info.peer_cert_der) in Path(own[0]).read_text()


def test_a_closed_socket_knows_what_was_agreed_though_it_was_not_asked_before(pair: Pair) -> None:
    pair.server.close()
    assert pair.server.info is not None
    assert pair.server.info.server_name == "localhost"
    assert pair.server.info.peer_cert is None


def service(**limits: Any) -> ServerContext:
    worker = Worker("text://127.0.0.1:0", name="w")
    worker.on_message = lambda connection, line: connection.send(line)
    board = Scoreboard(1)
    return ServerContext(worker, Limits(**limits), board.row(board.take()), get_hub().loop)


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        gevent_sleep(0.01)
    raise AssertionError("not in time")


REMOTE = ("192.0.2.1", 1)


def test_reading_that_has_to_write_first_waits_until_that_is_possible(pair: Pair) -> None:
    owner = service()

    class Stuck:
        """OpenSSL that owes the peer an answer to a KeyUpdate, which the kernel does not take."""

        def __init__(self, tls: Any) -> None:
            self.tls, self.reads, self.owes = tls, 0, True

        def __getattr__(self, name: str) -> Any:
            return getattr(self.tls, name)

        def read(self, size: int) -> Any:
            self.reads += 1
            if self.owes:
                raise ssl.SSLWantWriteError
            return self.tls.read(size)

    stuck = pair.server._tls = Stuck(pair.server._tls)
    with pytest.raises(BlockingIOError):
        while True:
            _socket.socket.send(pair.server, bytes(65536))
    connection = Connection(owner, pair.server, REMOTE, get("text"))
    connection.open()
    pair.client.send(b"line\n")
    gevent_sleep(0.1)
    assert stuck.reads == 1  # and not as often as the loop turns
    stuck.owes = False
    with pytest.raises(BlockingIOError):
        while True:
            _socket.socket.recv(pair.client, 1 << 20)
    until(lambda: connection.bytes_read)
    assert stuck.reads == 2
    until(lambda: connection.is_idle)
    connection.destroy()
