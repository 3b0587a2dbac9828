"""Contexts of OpenSSL: certificates by host, versions, ciphers, sessions, renewal."""

from __future__ import annotations

import _socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pki import Pki, serial
from tls_pair import Pair, opened, server

from gworker.errors import ConfigError
from gworker.tls.alpn import offered
from gworker.tls.contexts import Contexts
from gworker.tls.options import check as check_options
from gworker.tls.socket import RECORD, TlsSocket


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
    anonymous = Pair(optional, pki.client()).server.info
    assert anonymous is not None
    assert anonymous.peer_cert is None


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
