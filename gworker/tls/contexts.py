"""SSLContexts from the files that options name, and what is wrong with those files, in words.

A context is made from what was read by `files`, perhaps with more privileges than this process has
now.

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
from collections.abc import Iterator
from typing import Any

from gworker.errors import ConfigError
from gworker.tls.alpn import CLIENT_HELLO, HANDSHAKE, NO_APPLICATION_PROTOCOL, has_common
from gworker.tls.key_files import Files, Held
from gworker.tls.options import Certificate, ClientOptions, TlsOptions

log = logging.getLogger("gworker")

_native: Any = _ssl
"""What ssl stands on; typeshed lists only a part of it."""

VERIFY_MODES = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
SUITES = "@SECLEVEL=2:ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2, at the server's side: none with CBC, which has been broken again and again (RFC
9325, 4.2)."""

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Contexts:
    """The contexts of one Worker in one process. who: how messages name it."""

    def __init__(self, options: TlsOptions, who: str, files: Files | None = None) -> None:
        self._options = options
        self._who = who
        self._files = files or Files()
        self._made: dict[tuple[str, ...], ssl.SSLContext] = {}
        """By what is offered by ALPN."""

    def get(self, implied: tuple[str, ...]) -> ssl.SSLContext:
        """The context to begin a handshake with. implied: ALPN names, if the options say none.
        Raises ConfigError."""
        names = self._options.alpn if self._options.alpn is not None else implied
        context = self._made.get(names)
        if context is None:
            context = self._made[names] = server_context(
                self._options, self._who, names, self._files
            )
        return context

    def renew(self, held: Held) -> None:
        """Read all files again. Handshakes that begin from now on use them; connections are not
        touched.

        held: what was read of them by somebody who may. Raises ConfigError; then the old ones stay.
        """
        files = Files(held)
        made = {
            names: server_context(self._options, self._who, names, files) for names in self._made
        }
        self._files, self._made = files, made


def server_context(
    options: TlsOptions, who: str, names: tuple[str, ...], files: Files
) -> ssl.SSLContext:
    """A context for the beginning of a handshake, which goes on in that of the host that is asked
    for.

    A client that shares no protocol with us is refused (`alpn`).
    """
    context = _bare_server_context(options, who, names, files)
    default = _one_server_context(options, options.certificate, who, names, files)
    others = {
        host: _one_server_context(options, each, f"{who}: sni {host}", names, files)
        for host, each in options.sni.items()
    }

    def look(socket: Any, _: str, __: int, content: int, kind: int, message: bytes) -> None:
        if (content, kind) == (HANDSHAKE, CLIENT_HELLO):
            socket.is_refused = not has_common(message, names)

    def choose(socket: Any, host: str | None, _: ssl.SSLContext) -> int | None:
        if socket.is_refused:
            return NO_APPLICATION_PROTOCOL
        found = None if host is None else options.certificate_for(host)
        socket.server_name = host and host.lower()
        socket.use(
            default if found is None else others[found]
        )  # in which no callback is called for each record
        return None

    # Past the wrappers of ssl and of gevent, which look for their own kinds of sockets.
    if names:
        _native._SSLContext._msg_callback.__set__(context, look)
    _native._SSLContext.sni_callback.__set__(context, choose)
    return context


def _one_server_context(
    options: TlsOptions, certificate: Certificate, who: str, names: tuple[str, ...], files: Files
) -> ssl.SSLContext:
    context = _bare_server_context(options, who, names, files)
    _load_chain(context, certificate, options.password, who, files)
    return context


def _bare_server_context(
    options: TlsOptions, who: str, names: tuple[str, ...], files: Files
) -> ssl.SSLContext:
    """One without a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.minimum_version = VERSIONS[options.min_version]
    try:
        context.set_ciphers(SUITES if options.ciphers is None else options.ciphers)
    except ssl.SSLError:
        raise ConfigError(
            f"{who}: tls: ciphers={options.ciphers!r} selects no cipher suite"
        ) from None
    if names:
        context.set_alpn_protocols(list(names))
    if options.ca_certs is not None:
        _load_authorities(context, options.ca_certs, who, files)
    context.verify_mode = VERIFY_MODES[options.verify]
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF


def client_context(options: ClientOptions, who: str = "connect") -> ssl.SSLContext:
    """A context for the dialling side. The server's certificate and its host name are verified
    unless verify=False.

    Raises ConfigError for files that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not options.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif options.ca_certs is not None:
        _load_authorities(context, options.ca_certs, who, Files())
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if options.certificate is not None:
        _load_chain(context, options.certificate, options.password, who, Files())
    if options.alpn:
        context.set_alpn_protocols(list(options.alpn))
    return context


# ---- loading


@contextlib.contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A path under which OpenSSL finds `data`: it takes certificates with a key from files only."""
    descriptor = os.memfd_create("gworker-tls", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _load_chain(
    context: ssl.SSLContext,
    certificate: Certificate,
    password: str | bytes | None,
    who: str,
    files: Files,
) -> None:
    certfile, keyfile = certificate.certfile, certificate.keyfile
    chain, key = _read(certfile, "certfile", who, files), _read(keyfile, "keyfile", who, files)
    if (
        b"-----BEGIN CERTIFICATE-----" not in chain
        and b"-----BEGIN TRUSTED CERTIFICATE-----" not in chain
    ):
        raise ConfigError(
            f"{who}: tls: certfile {certfile} holds no certificate, expected PEM (BEGIN "
            "CERTIFICATE)"
        )
    if b"PRIVATE KEY-----" not in key:
        hint = "" if keyfile != certfile else "; say which file does with keyfile"
        raise ConfigError(
            f"{who}: tls: keyfile {keyfile} holds no private key, expected PEM (BEGIN PRIVATE "
            f"KEY){hint}"
        )
    encrypted = b"ENCRYPTED PRIVATE KEY-----" in key or b"Proc-Type: 4,ENCRYPTED" in key
    if encrypted and password is None:
        raise ConfigError(f"{who}: tls: the key in {keyfile} is encrypted, and tls has no password")
    with _as_file(chain) as chain_path, _as_file(key) as key_path:
        try:
            context.load_cert_chain(chain_path, key_path, lambda: password or "")
        except ssl.SSLError as error:
            raise ConfigError(f"{who}: tls: {_fault(error, certificate, encrypted)}") from None
        _warn_of_dates(chain_path, certfile, who)


def _read(path: str, key: str, who: str, files: Files) -> bytes:
    try:
        return files.read(path)
    except ConfigError as error:
        raise ConfigError(f"{who}: tls: {key} {error}") from None


def _fault(error: ssl.SSLError, certificate: Certificate, encrypted: bool) -> str:
    reason = error.reason or ""
    if reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
        return (
            f"the key in {certificate.keyfile} does not match the certificate in "
            f"{certificate.certfile}"
        )
    if encrypted:
        return f"the key in {certificate.keyfile} is encrypted, and the password does not fit"
    words = reason.replace("_", " ").lower() or str(error)
    return (
        f"cannot use the certificate in {certificate.certfile} with the key in "
        f"{certificate.keyfile}: {words}"
    )


def _load_authorities(context: ssl.SSLContext, path: str, who: str, files: Files) -> None:
    with _as_file(_read(path, "ca_certs", who, files)) as found:
        try:
            context.load_verify_locations(cafile=found)
        except ssl.SSLError:
            raise ConfigError(
                f"{who}: tls: ca_certs {path} holds no certificates, expected PEM"
            ) from None


def _warn_of_dates(found: str, certfile: str, who: str) -> None:
    """Clients will refuse it; but it is theirs to decide."""
    try:
        # The one function of the standard library that reads a certificate without a connection.
        decoded = _native._test_decode_cert(found)
        begin, end = (ssl.cert_time_to_seconds(decoded[each]) for each in ("notBefore", "notAfter"))
    except (ssl.SSLError, KeyError, ValueError):
        return
    now = time.time()
    if end < now:
        log.warning(
            "%s: tls: the certificate in %s has expired (%s)", who, certfile, decoded["notAfter"]
        )
    elif begin > now:
        log.warning(
            "%s: tls: the certificate in %s is not valid before %s",
            who,
            certfile,
            decoded["notBefore"],
        )
