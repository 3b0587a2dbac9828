"""TLS over socket pairs, without a process: contexts, the socket, handshakes; and what is refused
of options."""

from __future__ import annotations

import _socket
import fcntl
import os
import select
import socket as plain
import ssl
import struct
import sys
import termios
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gevent import get_hub
from gevent import sleep as gevent_sleep
from pki import Pki, serial

from gworker.app.limits import Limits
from gworker.app.validation import check
from gworker.app.worker import Worker
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.connection.write_buffer import WriteBuffer
from gworker.errors import ConfigError
from gworker.ipc.scoreboard import Scoreboard
from gworker.process import graceful_shutdown
from gworker.process.graceful_shutdown import GracefulShutdown
from gworker.protocols import get
from gworker.protocols.frame import FrameProtocol
from gworker.server.socketserver_socket import cooperative
from gworker.server.tls_accept import TlsAccept
from gworker.system.address import parse
from gworker.tls.alpn import has_common, offered
from gworker.tls.contexts import Contexts, client_context
from gworker.tls.handshake import Handshake, why
from gworker.tls.key_files import Reader, pack, read, read_all, unpack
from gworker.tls.options import check as check_options
from gworker.tls.options import check_client
from gworker.tls.socket import RECORD, TlsSocket


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    made = Pki(tmp_path_factory.mktemp("pki"))
    made.issue("server", "localhost")
    made.issue("shop", "shop.example.com")
    made.issue("any", "*.example.com")
    made.issue("client", "client.example.com")
    return made


@pytest.fixture
def files(pki: Pki) -> dict[str, str]:
    where = pki.directory
    return {"certfile": str(where / "server.pem"), "keyfile": str(where / "server.key")}


def server(options: dict[str, Any], *alpn: str) -> ssl.SSLContext:
    return Contexts(check_options(options), "Worker 'w'").get(alpn)


opened: list[TlsSocket] = []


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while opened:
        opened.pop().close()


def over_tcp() -> tuple[_socket.socket, _socket.socket]:
    with plain.create_server(("127.0.0.1", 0)) as listener:
        theirs = _socket.socket()
        theirs.connect(listener.getsockname())
        ours, _ = listener.accept()
    return _socket.socket(fileno=ours.detach()), theirs


def wait_for_bytes(socket: TlsSocket, size: int) -> None:
    """Until so many bytes wait in the kernel."""
    end = time.monotonic() + 10
    while int.from_bytes(fcntl.ioctl(socket, termios.FIONREAD, bytes(4)), "little") < size:
        assert time.monotonic() < end


class Pair:
    """A server's and a client's TlsSocket with their handshake behind them, unless it fails."""

    def __init__(
        self,
        at_server: ssl.SSLContext,
        at_client: ssl.SSLContext,
        host: str | None = "localhost",
        family: int = _socket.AF_UNIX,
        session: Any = None,
    ) -> None:
        ours, theirs = _socket.socketpair() if family == _socket.AF_UNIX else over_tcp()
        self.server = TlsSocket(ours, at_server, server_side=True)
        self.client = TlsSocket(theirs, at_client, server_side=False, server_name=host)
        if session is not None:
            self.client._tls.session = session
        opened.extend([self.server, self.client])
        left = [self.client, self.server]
        while left:
            for socket in list(left):
                try:
                    socket.handshake()
                    left.remove(socket)
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    continue


@pytest.fixture
def pair(pki: Pki, files: dict[str, str]) -> Pair:
    return Pair(server(files), pki.client())


# ---- the socket


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
    outbox = WriteBuffer(get_hub().loop.io(pair.server.fileno(), 2), lambda: None)
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
            connection._transport.on_writable()
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


class Counter:
    def count(self, read: int = 0, written: int = 0) -> None:
        """Nobody asks for it here."""


def test_a_legacy_handler_can_not_go_past_tls_either(pair: Pair) -> None:
    legacy: Any = cooperative(pair.server)
    legacy.owner = Counter()
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
    )  # a record that nobody can decrypt
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


def test_a_closed_socket_knows_what_was_agreed_though_nobody_asked_before(pair: Pair) -> None:
    pair.server.close()
    assert pair.server.info is not None
    assert pair.server.info.server_name == "localhost"
    assert pair.server.info.peer_cert is None


# ---- contexts


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("shop.example.com", "shop"),
        ("SHOP.example.com", "shop"),
        ("other.example.com", "any"),
        ("a.b.example.com", "server"),
        ("localhost", "server"),
    ],
)
def test_the_host_that_is_asked_for_decides_which_certificate_is_shown(
    pki: Pki, files: dict[str, str], host: str, shown: str
) -> None:
    where = pki.directory
    sni = {
        "Shop.Example.com": (where / "shop.pem", where / "shop.key"),
        "*.example.com": (str(where / "any.pem"), str(where / "any.key")),
    }
    client = pki.client()
    client.check_hostname = False
    info = Pair(server({**files, "sni": sni}), client, host).client.info
    assert info is not None
    assert info.peer_cert is not None
    assert ((("commonName", shown),)) in info.peer_cert["subject"]


def test_a_name_that_is_not_ascii_is_refused(
    pki: Pki, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPython decodes the name before any code of ours, and reports the fault on stderr."""
    reported: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda fault: reported.append(fault.exc_type))
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        pki.client().wrap_bio(into, out, server_hostname="localhost").do_handshake()
    ours, theirs = _socket.socketpair()
    opened.append(TlsSocket(ours, server(files), server_side=True))
    theirs.send(out.read().replace(b"localhost", b"local\xffost"))
    with pytest.raises(ssl.SSLError, match="CALLBACK_FAILED"):
        opened[-1].handshake()
    theirs.close()
    assert reported == [UnicodeDecodeError]


def test_alpn_holds_for_every_host(pki: Pki, files: dict[str, str]) -> None:
    sni = {"shop.example.com": (pki.directory / "shop.pem", pki.directory / "shop.key")}
    context = server({**files, "sni": sni, "alpn": ["a", "b"]}, "http/1.1")
    info = Pair(context, pki.client(alpn=["b", "http/1.1"]), "shop.example.com").server.info
    assert info is not None
    assert info.alpn == "b"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("host", ["localhost", "shop.example.com"])
def test_a_client_without_a_common_protocol_is_refused(
    pki: Pki, files: dict[str, str], version: ssl.TLSVersion, host: str
) -> None:
    sni = {"shop.example.com": (pki.directory / "shop.pem", pki.directory / "shop.key")}
    context = server({**files, "sni": sni}, "http/1.1")
    client = pki.client(alpn=["h2", "acme-tls/1"])
    client.maximum_version = client.minimum_version = version
    with pytest.raises(ssl.SSLError) as refused:
        Pair(context, client, host)
    assert why(refused.value) == "no protocol in common (ALPN)"
    with pytest.raises(ssl.SSLError) as told:
        opened[-1].handshake()
    assert "no application protocol" in str(told.value).lower().replace("_", " ")
    assert Pair(context, pki.client(), host).server.info.alpn is None  # type: ignore[union-attr]
    assert Pair(server(files), client).server.info.alpn is None  # type: ignore[union-attr]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_callback_of_ours_is_called_for_each_record(
    pki: Pki, files: dict[str, str], version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bytes] = []
    monkeypatch.setattr("gworker.tls.contexts.has_common", lambda hello, _: not calls.append(hello))
    client = pki.client(alpn=["http/1.1"])
    client.maximum_version = client.minimum_version = version
    context = server(files, "http/1.1")
    pair = Pair(context, client)
    assert pair.server._tls.context is not context
    assert len(calls) == 1
    assert offered(calls[0]) == ["http/1.1"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed(pki: Pki, files: dict[str, str], version: ssl.TLSVersion) -> None:
    client = pki.client(alpn=["http/1.1"])
    client.maximum_version = client.minimum_version = version
    context = server(files, "http/1.1")
    first = Pair(context, client)
    first.server.send(b"x")
    first.client.recv(RECORD)
    again = Pair(context, client, session=first.client._tls.session)
    assert again.server._tls.session_reused
    assert again.server.info is not None
    assert again.server.info.alpn == "http/1.1"


@pytest.mark.parametrize("cut", range(0, 300, 7))
def test_a_malformed_hello_offers_nothing(cut: int) -> None:
    names = b"\0\x0c\x02h2\x08http/1.1"
    hello = b"\x01\0\0\xff\x03\x03" + bytes(32) + b"\x20" + bytes(32) + b"\0\x02\x13\x01\x01\0"
    hello += (
        (4 + 5 + 4 + len(names)).to_bytes(2)
        + b"\xfe\x0d\0\x05hello"
        + b"\0\x10"
        + len(names).to_bytes(2)
        + names
    )
    assert offered(hello) == ["h2", "http/1.1"]
    offered(hello[:cut])
    assert not has_common(hello, ["spdy"])
    assert has_common(hello, ["spdy", "h2"])


def test_suites_with_cbc_are_off_unless_they_are_named(pki: Pki, files: dict[str, str]) -> None:
    client = pki.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("ECDHE+AES:!AESGCM:!AESCCM")
    with pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):
        Pair(server(files), client)
    info = Pair(server({**files, "ciphers": "ECDHE+AES"}), client).server.info
    assert info is not None
    assert info.cipher.startswith("ECDHE-ECDSA-AES")
    names = [each["name"] for each in server(files).get_ciphers()]
    assert all("GCM" in name or "CHACHA20" in name for name in names), names


def test_client_certificates(pki: Pki, files: dict[str, str], tmp_path: Path) -> None:
    own = (str(pki.directory / "client.pem"), str(pki.directory / "client.key"))
    stranger = Pki(tmp_path).issue("stranger", "client.example.com")
    required = server({**files, "verify": True, "ca_certs": pki.ca})
    optional = server({**files, "verify": "optional", "ca_certs": pki.ca})
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        Pair(required, pki.client())
    for context in (required, optional):
        with pytest.raises(ssl.SSLCertVerificationError):
            Pair(context, pki.client(*stranger))
        known = Pair(context, pki.client(*own)).server.info
        assert known is not None
        assert known.peer_cert is not None
    nobody = Pair(optional, pki.client()).server.info
    assert nobody is not None
    assert nobody.peer_cert is None


@pytest.mark.parametrize(
    ("least", "most"), [("1.2", ssl.TLSVersion.TLSv1_1), ("1.3", ssl.TLSVersion.TLSv1_2)]
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_versions_are_refused(
    pki: Pki, files: dict[str, str], least: str, most: ssl.TLSVersion
) -> None:
    client = pki.client()
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version, client.maximum_version = ssl.TLSVersion.TLSv1, most
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        Pair(server({**files, "min_version": least}), client)


def test_ciphers(pki: Pki, files: dict[str, str]) -> None:
    client = pki.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    info = Pair(server({**files, "ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384"}), client).server.info
    assert info is not None
    assert (info.version, info.cipher) == ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384")


def test_an_encrypted_key_and_one_file_for_both(
    pki: Pki, files: dict[str, str], tmp_path: Path
) -> None:
    encrypted = pki.encrypt(files["keyfile"], "secret")
    both = tmp_path / "both.pem"
    both.write_bytes(Path(files["certfile"]).read_bytes() + Path(encrypted).read_bytes())
    assert Pair(server({"certfile": both, "password": "secret"}), pki.client()).server.info


def test_renewal_reads_the_files_again_and_a_broken_one_changes_nothing(pki: Pki) -> None:
    certfile, keyfile = pki.issue("renewed", "localhost")
    contexts = Contexts(check_options({"certfile": certfile, "keyfile": keyfile}), "Worker 'w'")

    def shown() -> str:
        info = Pair(contexts.get(()), pki.client()).client.info
        assert info is not None
        return serial(info.peer_cert)

    first = shown()
    pki.issue("renewed", "localhost")
    assert shown() == first
    contexts.reread({})
    second = shown()
    assert second != first
    Path(keyfile).write_text("broken")
    with pytest.raises(ConfigError, match=r"renewed\.key holds no private key"):
        contexts.reread({})
    assert shown() == second


def _broken(name: str, text: str = "") -> Callable[[Pki, Path], dict[str, Any]]:
    def make(_: Pki, tmp_path: Path) -> dict[str, Any]:
        (tmp_path / "broken").write_text(text)
        return {name: tmp_path / "broken"}

    return make


FAULTS: list[tuple[Callable[[Pki, Path], dict[str, Any]], str]] = [
    (
        lambda _, path: {"certfile": path / "none.pem"},
        r"certfile /.*/none\.pem: No such file or directory",
    ),
    (lambda _, path: {"keyfile": path}, r"keyfile /.*: Is a directory"),
    (
        lambda _, path: {"ca_certs": path / "none.pem", "verify": True},
        r"ca_certs /.*/none\.pem: No such file",
    ),
    (_broken("certfile", "no PEM"), r"certfile /.*/broken holds no certificate, expected PEM"),
    (_broken("keyfile", "no PEM"), r"keyfile /.*/broken holds no private key, expected PEM"),
    (_broken("ca_certs", "no PEM"), r"ca_certs /.*/broken holds no certificates, expected PEM"),
    (
        _broken("certfile", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        r"cannot use the certificate in /.*/broken with the key in ",
    ),
    (
        lambda pki, _: {"keyfile": None},
        r"keyfile /.*/server\.pem holds no private key.*say which file does",
    ),
    (
        lambda pki, _: {"keyfile": pki.directory / "shop.key"},
        r"the key in /.*/shop\.key does not match the certificate in /.*/server\.pem",
    ),
    (
        lambda pki, _: {"keyfile": pki.encrypt(str(pki.directory / "server.key"), "secret")},
        r"the key in /.*/server\.key\.encrypted is encrypted, and tls has no password",
    ),
    (
        lambda pki, _: {
            "keyfile": pki.encrypt(str(pki.directory / "server.key"), "secret"),
            "password": "wrong",
        },
        r"the key in /.*/server\.key\.encrypted is encrypted, and the password does not fit",
    ),
    (lambda _, path: {"ciphers": "NONE-SUCH"}, r"ciphers='NONE-SUCH' selects no cipher suite"),
    (
        lambda pki, _: {
            "sni": {"a.example": (pki.directory / "shop.pem", pki.directory / "any.key")}
        },
        r"sni a\.example: tls: the key in /.*/any\.key does not match",
    ),
]


@pytest.mark.parametrize(("fault", "message"), FAULTS)
def test_what_cannot_be_used_is_named(
    pki: Pki,
    files: dict[str, str],
    tmp_path: Path,
    fault: Callable[[Pki, Path], dict[str, Any]],
    message: str,
) -> None:
    with pytest.raises(ConfigError, match=f"^Worker 'w': .*{message}"):
        server({**files, **fault(pki, tmp_path)})


def test_an_expired_certificate_is_warned_of(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    certfile, keyfile = pki.issue("expired", "localhost", days=-1)
    later = pki.issue("later", "localhost", days=90)
    server({"certfile": certfile, "keyfile": keyfile})
    server({"certfile": later[0], "keyfile": later[1]})
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith(f"Worker 'w': tls: the certificate in {certfile} has expired (")
    assert second.startswith(f"Worker 'w': tls: the certificate in {later[0]} is not valid before ")


# ---- options


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        ("cert.pem", r"tls='cert\.pem' is not valid, expected a dict with certfile, keyfile, "),
        ({}, "tls has no certfile, expected the path of a PEM file"),
        (
            {"certfile": "a", "cert": "b"},
            r"tls has an unknown key 'cert'; there are certfile, keyfile, ",
        ),
        ({"certfile": 3}, r"tls: certfile=3 is not valid, expected the path of a PEM file"),
        (
            {"certfile": "a", "keyfile": ""},
            r"tls: keyfile='' is not valid, expected the path of a PEM file",
        ),
        ({"certfile": "a", "password": 3}, r"tls: password is not valid, expected a string"),
        (
            {"certfile": "a", "verify": "yes"},
            r'tls: verify=\'yes\' is not valid, expected "none" \(or False\), ',
        ),
        ({"certfile": "a", "verify": 1.0}, r"tls: verify=1\.0 is not valid"),
        ({"certfile": "a", "verify": True}, r"tls: verify=True needs ca_certs"),
        (
            {"certfile": "a", "sni": ["b"]},
            r"tls: sni=\['b'\] is not valid, expected a dict \{host: ",
        ),
        (
            {"certfile": "a", "sni": {"*": ("b", "c")}},
            r"tls: sni='\*' is not valid, expected the names of hosts",
        ),
        (
            {"certfile": "a", "sni": {"b.c": ("b",)}},
            r"tls: sni\['b\.c'\]=\('b',\) is not valid, expected \(certfile",
        ),
        (
            {"certfile": "a", "alpn": "h2"},
            r"tls: alpn='h2' is not valid, expected a list of protocol names",
        ),
        (
            {"certfile": "a", "min_version": "1.1"},
            r'tls: min_version=\'1\.1\' is not valid, expected "1\.2" or "1\.3"',
        ),
        ({"certfile": "a", "min_version": 1.2}, r"tls: min_version=1\.2 is not valid"),
        (
            {"certfile": "a", "ciphers": []},
            r"tls: ciphers=\[\] is not valid, expected a string in the format of",
        ),
    ],
)
def test_options_that_are_refused(tls: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^Worker 'web': {message}"):
        Worker("https://127.0.0.1:0", name="web", tls=tls)


def test_a_password_is_shown_nowhere() -> None:
    options = check_options({"certfile": "a", "password": "secret"})
    assert "secret" not in repr(options)


def test_paths_are_meant_from_where_the_target_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = check_options(
        {"certfile": "c.pem", "ca_certs": "ca.pem", "sni": {"a.b": ("d.pem", "d.key")}}
    )
    monkeypatch.chdir("/")
    names = ("c.pem", "d.pem", "d.key", "ca.pem")
    assert options.files() == tuple(str(tmp_path / name) for name in names)
    assert Worker("tls://127.0.0.1:0", tls=options).declaration().files == options.files()


def test_tls_and_the_address_have_to_fit(files: dict[str, str]) -> None:
    with pytest.raises(
        ConfigError, match=r"Worker 'a': https://127\.0\.0\.1:0 needs a certificate: tls="
    ):
        check(Worker("https://127.0.0.1:0", name="a"))
    with pytest.raises(
        ConfigError, match=r"Worker 'b': tls is given, and http://127\.0\.0\.1:0 is without TLS"
    ):
        check(Worker("http://127.0.0.1:0", name="b", tls=files))
    check(Worker("text://127.0.0.1:0", name="c", transport="ssl", tls=files))
    check(Worker(name="d", tls=files))
    with pytest.raises(ConfigError, match=r"Worker 'e': tls: certfile /none: No such file"):
        check(Worker(name="e", tls={"certfile": "/none"}))


def test_addresses() -> None:
    assert [
        parse(f"{scheme}://h:1").tls for scheme in ("wss", "https", "tls", "ssl", "tcp", "ws")
    ] == [True] * 4 + [False] * 2
    assert parse("text://h:1", "ssl").tls
    assert parse("text://h:1", "ssl").transport == "tcp"
    assert parse("unix:///a", "ssl").transport == "unix"
    with pytest.raises(ConfigError, match="UDP is none"):
        parse("udp://h:1", "ssl")


# ---- files


def test_what_is_read_for_others_has_to_look_like_a_certificate_or_key(
    files: dict[str, str], tmp_path: Path
) -> None:
    secret = tmp_path / "id"
    secret.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    paths = [*files.values(), str(secret), str(tmp_path), "/none"]
    expected: dict[str, bytes | str] = {path: Path(path).read_bytes() for path in files.values()}
    expected |= {
        str(secret): b"",
        str(tmp_path): "Is a directory",
        "/none": "No such file or directory",
    }
    assert read_all(paths) == expected
    assert unpack(pack(paths)) == expected
    assert Reader().read_all(paths) == expected


def test_what_may_not_be_read_any_more_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("gworker.tls.key_files._read", refuse)
    assert read("/key", {"/key": b"kept"}) == b"kept"
    with pytest.raises(ConfigError, match="^/key: No such file$"):
        read("/key", {"/key": "No such file"})
    with pytest.raises(ConfigError, match="^/other: Permission denied$"):
        read("/other", {"/key": b"kept"})


def test_a_directory_costs_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert read_all([str(tmp_path)] * 5) == {str(tmp_path): "Is a directory"}
    assert len(os.listdir("/proc/self/fd")) == before


# ---- handshakes


def shake(at_server: ssl.SSLContext, at_client: ssl.SSLContext, host: str | None) -> list[str]:
    """Both sides of a handshake in the hub; what was told, the client's first."""
    loop = get_hub().loop
    ours, theirs = _socket.socketpair()
    told: dict[str, str] = {}
    one = TlsSocket(ours, at_server, server_side=True)
    two = TlsSocket(theirs, at_client, server_side=False, server_name=host)
    Handshake(
        loop, one, lambda: told.update(server="done"), lambda why: told.update(server=why)
    ).start()
    Handshake(
        loop, two, lambda: told.update(client="done"), lambda why: told.update(client=why)
    ).start(2)
    for _ in range(200):
        gevent_sleep(0.01)
        if len(told) == 2:
            break
    one.close()
    two.close()
    return [told.get("client", ""), told.get("server", "")]


def test_a_handshake_in_the_hub_for_both_sides(pki: Pki, files: dict[str, str]) -> None:
    assert shake(
        server(files), client_context(check_client({"ca_certs": pki.ca})), "localhost"
    ) == ["done", "done"]
    assert shake(server(files), client_context(check_client({"verify": False})), None) == [
        "done",
        "done",
    ]
    told = shake(server(files), client_context(check_client({"ca_certs": pki.ca})), "elsewhere")
    assert told == [
        "the peer's certificate is refused: Hostname mismatch, certificate is not valid for "
        "'elsewhere'.",
        "the peer has refused: sslv3 alert bad certificate",
    ]
    told = shake(server(files), client_context(check_client({})), "localhost")
    assert "the peer's certificate is refused: " in told[0]


def test_client_options_that_are_refused(pki: Pki) -> None:
    with pytest.raises(
        ConfigError, match=r"^connect: tls has an unknown key 'cafile'; there are ca_certs, "
    ):
        check_client({"cafile": "a"})
    with pytest.raises(
        ConfigError, match=r"^connect: tls: verify='none' is not valid, expected True or False"
    ):
        check_client({"verify": "none"})
    with pytest.raises(ConfigError, match=r"^connect: tls: certfile /none: No such file"):
        client_context(check_client({"certfile": "/none", "ca_certs": pki.ca}))


# ---- in a process


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


def accept(owner: ServerContext, context: ssl.SSLContext) -> TlsSocket:
    """An accepted socket in `owner`; returns the client's end, which has said nothing yet."""
    ours, theirs = _socket.socketpair()

    def take(socket: _socket.socket, remote: Any) -> None:
        Connection(owner, socket, remote, get("text")).open()

    TlsAccept(owner, lambda: context, take)(ours, REMOTE)
    client = TlsSocket(theirs, client_context(check_client({"verify": False})), server_side=False)
    opened.append(client)
    return client


def test_an_accepted_socket_becomes_a_connection_and_counts_all_the_time(
    files: dict[str, str],
) -> None:
    owner = service(max_connections_per_address=1)
    client = accept(owner, server(files))
    assert len(owner.registry.handshaking) == 1
    assert not owner.registry.connections
    assert owner.registry.per_address is not None
    assert owner.registry.per_address.is_full(REMOTE)
    told: list[str] = []
    Handshake(get_hub().loop, client, lambda: told.append("done"), told.append).start(2)
    until(lambda: owner.registry.connections)
    assert told == ["done"]
    assert not owner.registry.handshaking
    assert list(owner.registry.per_address.counts.values()) == [1]
    assert not owner.timeouts.deadlines.due
    (connection,) = owner.registry.connections.values()
    assert (connection.transport, connection.tls.version, connection.migration_obstacle) == (
        "ssl",
        "TLSv1.3",
        "TLS",
    )
    client.send(b"line\n")
    until(lambda: connection.bytes_written)
    assert client.recv(65536) == b"line\n"
    connection.destroy()
    assert not owner.registry.per_address.counts


def test_a_handshake_that_takes_too_long_is_cut(
    files: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    owner = service(handshake_timeout=0.05)
    freed: list[int] = []
    owner.registry.on_closed.append(lambda: freed.append(1))
    with caplog.at_level("INFO"):
        client = accept(owner, server(files))
        until(lambda: not owner.registry.handshaking)
    assert [record.getMessage() for record in caplog.records] == [
        "TLS handshake with 192.0.2.1:1: not finished in time"
    ]
    assert freed == [1]
    assert _socket.socket.recv(client, 100) == b""


def test_a_process_that_ends_waits_a_little_for_handshakes(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graceful_shutdown, "STOP_SILENCE", 0.3)
    owner, ended = service(), []
    client = accept(owner, server(files))
    GracefulShutdown(owner, 1001, lambda: ended.append(1)).begin(10, None)
    gevent_sleep(0.15)
    assert owner.registry.handshaking
    assert not ended
    until(lambda: not owner.registry.handshaking, 5)
    assert _socket.socket.recv(client, 100) == b""
    client.close()
    until(lambda: ended)


def test_a_process_in_a_hurry_waits_for_no_handshake(files: dict[str, str]) -> None:
    owner = service()
    client = accept(owner, server(files))
    GracefulShutdown(owner, 1001, lambda: None).quit()
    assert not owner.registry.handshaking
    assert _socket.socket.recv(client, 100) == b""


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
