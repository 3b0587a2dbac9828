"""SSLContexts from the files that options name, and what is wrong with those files, in words.

The files are read here, or were read before with more privileges than this process has now
(`key_files.Held`).

Modern defaults: TLS 1.2 and 1.3, authenticated encryption with forward secrecy, no renegotiation,
no compression. An end of stream without close_notify counts as a loss, not as an end (RFC 8446,
6.1).
"""

from __future__ import annotations

import _ssl
import contextlib
import logging
import os
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any

from gworker.errors import ConfigError
from gworker.tls import key_files
from gworker.tls.alpn import CLIENT_HELLO, HANDSHAKE, NO_APPLICATION_PROTOCOL, has_common
from gworker.tls.key_files import Held
from gworker.tls.options import Certificate, TlsOptions
from gworker.tls.socket import TlsSocket

log = logging.getLogger("gworker")

_native: Any = _ssl  # typeshed lists only a part of it

VERIFY_MODES = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

# For TLS 1.2, at the server's side: none with CBC, which was broken repeatedly (RFC 9325, 4.2).
SUITES = "@SECLEVEL=2:ECDHE+AESGCM:ECDHE+CHACHA20"


class Contexts:
    """The contexts of one Worker in one process. where: the Worker, as messages name it."""

    def __init__(self, options: TlsOptions, where: str, held: Held | None = None) -> None:
        self._options = options
        self._where = where
        self._held = held or {}
        self._made: dict[tuple[str, ...], ssl.SSLContext] = {}  # by the names for ALPN

    def get(self, implied: tuple[str, ...]) -> ssl.SSLContext:
        """The context to begin a handshake with. implied: names for ALPN, if the options have
        none. Raises ConfigError."""
        names = self._options.alpn if self._options.alpn is not None else implied
        if names not in self._made:
            self._made[names] = server_context(self._options, self._where, names, self._held)
        return self._made[names]

    def reread(self, held: Held) -> None:
        """Read all files again. Handshakes that begin from now on use them; connections do not.

        held: what was read of them with more rights. Raises ConfigError; then the old ones stay.
        """
        self._made = {
            names: server_context(self._options, self._where, names, held) for names in self._made
        }
        self._held = held


def server_context(
    options: TlsOptions, where: str, names: tuple[str, ...], held: Held
) -> ssl.SSLContext:
    """A context for the beginning of a handshake, which goes on in that of the host that the client
    asks for.

    names: for ALPN; a client that offers others only is refused (alpn.py).
    """
    assert options.certificate is not None
    context = _bare_server_context(options, where, names, held)
    default = _bare_server_context(options, where, names, held)
    _load_chain(default, options.certificate, options.password, where, held)
    others = {}
    for host, certificate in options.sni.items():
        others[host] = _bare_server_context(options, where, names, held)
        _load_chain(others[host], certificate, options.password, f"{where}: sni {host}", held)

    def look(socket: TlsSocket, _: str, __: int, content: int, kind: int, message: bytes) -> None:
        if (content, kind) == (HANDSHAKE, CLIENT_HELLO):
            socket.is_refused = not has_common(message, names)

    def choose(socket: TlsSocket, host: str | None, _: ssl.SSLContext) -> int | None:
        if socket.is_refused:
            return NO_APPLICATION_PROTOCOL
        found = None if host is None else options.certificate_for(host)
        socket.server_name = host and host.lower()
        # Into a context without callbacks: `look` would be called for every record.
        socket.use(default if found is None else others[found])
        return None

    # Past the wrappers of ssl and of gevent, which look for their own kinds of sockets.
    if names:
        _native._SSLContext._msg_callback.__set__(context, look)
    _native._SSLContext.sni_callback.__set__(context, choose)
    return context


def _bare_server_context(
    options: TlsOptions, where: str, names: tuple[str, ...], held: Held
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.minimum_version = VERSIONS[options.min_version]
    try:
        context.set_ciphers(SUITES if options.ciphers is None else options.ciphers)
    except ssl.SSLError:
        raise ConfigError(
            f"{where}: tls: ciphers={options.ciphers!r} selects no cipher suite"
        ) from None
    if names:
        context.set_alpn_protocols(list(names))
    if options.ca_certs is not None:
        _load_authorities(context, options.ca_certs, where, held)
    context.verify_mode = VERIFY_MODES[options.verify]
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF


def client_context(options: TlsOptions, where: str = "connect") -> ssl.SSLContext:
    """A context for the dialling side. The server's certificate and its host name are verified
    unless `verify` is "none".

    Raises ConfigError for files that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if options.verify == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif options.ca_certs is not None:
        _load_authorities(context, options.ca_certs, where, {})
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if options.certificate is not None:
        _load_chain(context, options.certificate, options.password, where, {})
    if options.alpn:
        context.set_alpn_protocols(list(options.alpn))
    return context


# ---- loading


@contextlib.contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    # A path under which OpenSSL finds `data`: it takes certificates with a key from files only.
    with open(os.memfd_create("gworker-tls"), "wb") as file:
        file.write(data)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _load_chain(
    context: ssl.SSLContext,
    certificate: Certificate,
    password: str | bytes | None,
    where: str,
    held: Held,
) -> None:
    certfile, keyfile = certificate.certfile, certificate.keyfile
    chain = _read(certfile, "certfile", where, held)
    key = _read(keyfile, "keyfile", where, held)
    if not any(b"-----BEGIN %sCERTIFICATE-----" % each in chain for each in (b"", b"TRUSTED ")):
        raise ConfigError(
            f"{where}: tls: certfile {certfile} holds no certificate, expected PEM (BEGIN "
            "CERTIFICATE)"
        )
    if b"PRIVATE KEY-----" not in key:
        hint = "" if keyfile != certfile else "; say which file does with keyfile"
        raise ConfigError(
            f"{where}: tls: keyfile {keyfile} holds no private key, expected PEM (BEGIN PRIVATE "
            f"KEY){hint}"
        )
    encrypted = b"ENCRYPTED PRIVATE KEY-----" in key or b"Proc-Type: 4,ENCRYPTED" in key
    if encrypted and password is None:
        raise ConfigError(
            f"{where}: tls: the key in {keyfile} is encrypted, and tls has no password"
        )
    with _as_file(chain) as chain_path, _as_file(key) as key_path:
        try:
            context.load_cert_chain(chain_path, key_path, lambda: password or "")
        except ssl.SSLError as error:
            raise ConfigError(f"{where}: tls: {_fault(error, certificate, encrypted)}") from None
        _warn_of_dates(chain_path, certfile, where)


def _read(path: str, key: str, where: str, held: Held) -> bytes:
    try:
        return key_files.read(path, held)
    except ConfigError as error:
        raise ConfigError(f"{where}: tls: {key} {error}") from None


def _fault(error: ssl.SSLError, certificate: Certificate, encrypted: bool) -> str:
    reason, key = error.reason or "", f"the key in {certificate.keyfile}"
    if reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
        return f"{key} does not match the certificate in {certificate.certfile}"
    if encrypted:
        return f"{key} is encrypted, and the password does not fit"
    words = reason.replace("_", " ").lower() or str(error)
    return f"cannot use the certificate in {certificate.certfile} with {key}: {words}"


def _load_authorities(context: ssl.SSLContext, path: str, where: str, held: Held) -> None:
    with _as_file(_read(path, "ca_certs", where, held)) as found:
        try:
            context.load_verify_locations(cafile=found)
        except ssl.SSLError:
            raise ConfigError(
                f"{where}: tls: ca_certs {path} holds no certificates, expected PEM"
            ) from None


def _warn_of_dates(found: str, certfile: str, where: str) -> None:
    # A certificate out of its time is used all the same: each client decides.
    try:
        # The one function of the standard library that reads a certificate without a connection.
        decoded: Mapping[str, str] = _native._test_decode_cert(found)
        begin, end = (ssl.cert_time_to_seconds(decoded[each]) for each in ("notBefore", "notAfter"))
    except (ssl.SSLError, KeyError, ValueError):
        return
    if end < time.time():
        message = "%s: tls: the certificate in %s has expired (%s)"
        log.warning(message, where, certfile, decoded["notAfter"])
    elif begin > time.time():
        message = "%s: tls: the certificate in %s is not valid before %s"
        log.warning(message, where, certfile, decoded["notBefore"])
