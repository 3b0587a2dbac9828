"""What has to fit together in a Worker: its protocol, handler, address and certificates.

The checks are made before a process serves it, also by `gworker check`. Nothing is bound here.
"""

from __future__ import annotations

import logging

from gworker.app.callbacks import is_legacy
from gworker.app.worker import Worker
from gworker.errors import ConfigError
from gworker.protocols import complete
from gworker.protocols import get as get_protocol
from gworker.protocols.base import Protocol
from gworker.protocols.http.head import HeadProtocol
from gworker.protocols.lockstep import lockstep
from gworker.system import address as addresses
from gworker.system.address import Address
from gworker.system.unix_socket import UnixFile
from gworker.tls.contexts import Contexts
from gworker.tls.key_files import Held
from gworker.tls.options import WEB

log = logging.getLogger("gworker")


def check_inner(declared: Worker, address: Address) -> None:
    """Raise ConfigError for a Worker that only a process of its own could serve."""
    if declared.observers:
        raise ConfigError(
            f"{declared!r}: inside a process of another Worker it has the observers of that one"
        )
    if declared.connection_handler is not None or address.tls or address.transport == "udp":
        raise ConfigError(
            f"{declared!r}: inside a process of another Worker it needs on_message, tcp or unix, "
            "and no TLS;"
            " declare it at module level to give it processes of its own"
        )


def protocol_of(declared: Worker, url: str) -> type[Protocol]:
    """The protocol class that `declared` speaks at `url`. Raises ConfigError if there is none of
    that name."""
    scheme = url.partition("://")[0].lower()
    found = protocol_class(
        declared.spoken_protocol or addresses.TLS_SCHEMES.get(scheme, scheme), url
    )
    return lockstep(found) if declared.options.get("lockstep") else found


def datagram_protocol(declared: Worker, url: str, label: str) -> type[Protocol]:
    """The protocol class for the datagrams that come to `url`. Raises ConfigError, which begins
    with `label`, if it or the handler needs connections."""
    protocol = protocol_of(declared, url)
    if declared.connection_handler is not None:
        raise ConfigError(
            f"{label}: a connection handler needs connections, and UDP has none; use on_message"
        )
    if not protocol.over_datagrams:
        raise ConfigError(
            f"{label}: the {protocol.name} protocol needs connections, and UDP has none"
        )
    return protocol


def protocol_class(protocol: str | type[Protocol], url: str) -> type[Protocol]:
    """The class itself, or that of the name. Raises ConfigError if there is none, or it cannot
    receive anything."""
    try:
        if isinstance(protocol, type):
            return complete(protocol)
        return get_protocol("tcp" if protocol == "unix" else protocol)
    except (LookupError, TypeError) as error:
        raise ConfigError(f"address {url!r}: {error}") from None


def contexts_of(declared: Worker, held: Held | None = None) -> Contexts | None:
    options = declared.options.get("tls")
    return None if options is None else Contexts(options, f"Worker {declared.name!r}", held)


def needs_tls(declared: Worker, url: str) -> str:
    return (
        f"Worker {declared.name!r}: {url} needs a certificate: "
        "tls={'certfile': ..., 'keyfile': ...}"
    )


def implied_alpn(declared: Worker, url: str) -> tuple[str, ...]:
    """What is offered by ALPN, if the Worker does not say it."""
    if is_legacy(declared.connection_handler):
        return ()
    return WEB if issubclass(protocol_of(declared, url), HeadProtocol) else ()


def check_tls(declared: Worker, held: Held | None = None) -> None:
    """Load the certificates of `declared`. Raises ConfigError for what could not be used or does
    not fit."""
    url = declared.listen_url
    address = addresses.parse(url, declared.transport) if url else None
    contexts = contexts_of(declared, held)
    if address is not None and url is not None and address.tls != (contexts is not None):
        if contexts is None:
            raise ConfigError(needs_tls(declared, url))
        raise ConfigError(
            f"Worker {declared.name!r}: tls is given, and {url} is without TLS;"
            ' expected https, wss, tls or transport="ssl"'
        )
    if contexts is not None:
        contexts.get(implied_alpn(declared, url) if url else ())


def _check_http(declared: Worker, url: str) -> None:
    from gworker.protocols.http.protocol import HttpProtocol

    protocol = protocol_of(declared, url)
    if not issubclass(protocol, HttpProtocol):
        raise ConfigError(
            f"{declared!r}: a WSGI application is asked over HTTP, and this address speaks "
            f"{protocol.name}; expected http, https or unix"
        )


def check(declared: Worker, held: Held | None = None) -> None:
    """Raise ConfigError for a Worker that could not be served: its protocol, handler and address do
    not fit.

    held: its certificates, read with more rights.
    """
    kind: object = declared.protocol
    is_class = isinstance(kind, type) and issubclass(kind, Protocol)
    if not (is_class or kind is None or isinstance(kind, str)):
        raise ConfigError(f"{declared!r}: protocol {kind!r} is neither a name nor a Protocol class")
    if declared.listen_url is None:
        check_tls(declared, held)
        return
    handler = declared.connection_handler
    address = addresses.parse(declared.listen_url, declared.transport)
    for key in declared.options:
        if key.startswith("unix_") and address.transport != "unix":
            raise ConfigError(
                f"{declared!r}: {key} is for unix sockets, and it listens on {address.url}"
            )
    if declared.options.get("proxy_protocol") and address.transport == "udp":
        raise ConfigError(f"{declared!r}: proxy_protocol is for connections, and UDP has none")
    try:
        UnixFile.of(declared.options).check()
    except ConfigError as error:
        raise ConfigError(f"{declared!r}: unix_user or unix_group: {error}") from None
    if address.transport == "udp" and not is_legacy(handler):
        datagram_protocol(declared, declared.listen_url, repr(declared))
    elif not is_legacy(handler):
        protocol_of(declared, declared.listen_url)
    if declared.wsgi is not None:
        _check_http(declared, declared.listen_url)
    check_tls(declared, held)
    if handler is None and not declared.is_heard:
        log.warning(
            "%r has no on_message: whatever comes is thrown away, and requests are never answered",
            declared,
        )
