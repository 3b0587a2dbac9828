"""What a Worker (`tls={...}`) or a client says about TLS: checked, and without loading anything.

The files are read later, in the processes that need them (`certificates`). Nothing here imports
ssl: declarations are read by the arbiter, too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gworker.errors import ConfigError
from gworker.system import directory

KEYS = (
    "certfile", "keyfile", "password", "ca_certs", "verify", "sni", "alpn", "min_version",
    "ciphers",
)  # fmt: skip

CLIENT_KEYS = ("ca_certs", "certfile", "keyfile", "password", "verify", "server_hostname", "alpn")

VERIFY = {
    None: "none", False: "none", "none": "none", "optional": "optional", True: "required",
    "required": "required",
}  # fmt: skip

VERSIONS = ("1.2", "1.3")

MAX_ALPN = 255
"""Bytes of one protocol's name (RFC 7301, 3.1)."""

WEB = ("http/1.1",)
"""What is offered by ALPN where HTTP is spoken. (The IANA registry has no name for the others.)"""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate chain with its key: absolute paths of PEM files, which may be one and the
    same."""

    certfile: str
    keyfile: str


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """The options of one Worker."""

    certificate: Certificate
    password: str | bytes | None = field(default=None, repr=False)
    ca_certs: str | None = None
    verify: str = "none"
    """Client certificates: `none`, `optional` or `required`."""
    sni: Mapping[str, Certificate] = field(default_factory=dict)
    """By host, in lower case; `*.example.com` stands for one label."""
    alpn: tuple[str, ...] | None = None
    """None: what the protocol of the address implies."""
    min_version: str = "1.2"
    ciphers: str | None = None

    def files(self) -> tuple[str, ...]:
        """Every file that is read, once."""
        found = [self.certificate, *self.sni.values()]
        paths = [path for each in found for path in (each.certfile, each.keyfile)]
        return tuple(dict.fromkeys([*paths, *([self.ca_certs] if self.ca_certs else [])]))

    def certificate_for(self, host: str) -> str | None:
        """The key in `sni` for what a client has asked for; None: there is none, the default one is
        shown."""
        host = host.lower().rstrip(".")
        if host in self.sni:
            return host
        wildcard = "*." + host.partition(".")[2]
        return wildcard if wildcard in self.sni else None


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """The options of what is dialled, without the name of the server: that is for each
    connection."""

    certificate: Certificate | None = None
    password: str | bytes | None = field(default=None, repr=False)
    ca_certs: str | None = None
    """None: the system's."""
    verify: bool = True
    alpn: tuple[str, ...] | None = None

    def files(self) -> tuple[str, ...]:
        """Every file that is read."""
        found = (
            ()
            if self.certificate is None
            else (self.certificate.certfile, self.certificate.keyfile)
        )
        return found if self.ca_certs is None else (*found, self.ca_certs)


def check_client(value: Mapping[str, Any], who: str = "connect") -> ClientOptions:
    """The options in the dict `value`. Raises ConfigError naming the key and what was expected of
    it."""
    for key in value:
        if key not in CLIENT_KEYS:
            raise ConfigError(
                f"{who}: tls has an unknown key {key!r}; there are {', '.join(CLIENT_KEYS)}"
            )
    verify, certfile = value.get("verify", True), value.get("certfile")
    if not isinstance(verify, bool):
        raise _wrong(who, "verify", verify, "True or False")
    return ClientOptions(
        None if certfile is None else _certificate(certfile, value.get("keyfile"), "certfile", who),
        _password(value.get("password"), who),
        _path(value, "ca_certs", who),
        verify,
        alpn(value.get("alpn"), who),
    )


def check(value: Any, who: str = "Worker") -> TlsOptions:
    """The options in the dict `value`. Raises ConfigError naming the key and what was expected of
    it."""
    if isinstance(value, TlsOptions):
        return value
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{who}: tls={value!r} is not valid, expected a dict with {', '.join(KEYS)}"
        )
    for key in value:
        if key not in KEYS:
            raise ConfigError(f"{who}: tls has an unknown key {key!r}; there are {', '.join(KEYS)}")
    if value.get("certfile") is None:
        raise ConfigError(f"{who}: tls has no certfile, expected the path of a PEM file")
    verify = _verify(value.get("verify"), who)
    ca_certs = _path(value, "ca_certs", who)
    if verify != "none" and ca_certs is None:
        raise ConfigError(
            f"{who}: tls: verify={value['verify']!r} needs ca_certs, the path of a PEM file with "
            "the certificates"
            " of those who may sign a client's"
        )
    return TlsOptions(
        _certificate(value["certfile"], value.get("keyfile"), "certfile", who),
        _password(value.get("password"), who),
        ca_certs,
        verify,
        _sni(value.get("sni"), who),
        alpn(value.get("alpn"), who),
        _version(value.get("min_version"), who),
        _text(value.get("ciphers"), "ciphers", "a string in the format of openssl-ciphers(1)", who),
    )


def _wrong(who: str, key: str, value: Any, expected: str) -> ConfigError:
    return ConfigError(f"{who}: tls: {key}={value!r} is not valid, expected {expected}")


def _path(value: Mapping[str, Any], key: str, who: str) -> str | None:
    found = value.get(key)
    return None if found is None else absolute(found, key, who)


def absolute(path: Any, key: str, who: str) -> str:
    """`path` as seen from the directory in which the target is loaded, wherever it goes later."""
    if (
        not isinstance(path, str | os.PathLike)
        or not (found := os.fspath(path))
        or not isinstance(found, str)
    ):
        raise _wrong(who, key, path, "the path of a PEM file")
    return directory.absolute(found)


def _certificate(certfile: Any, keyfile: Any, key: str, who: str) -> Certificate:
    path = absolute(certfile, key, who)
    return Certificate(
        path,
        path if keyfile is None else absolute(keyfile, key.replace("certfile", "keyfile"), who),
    )


def _password(value: Any, who: str) -> str | bytes | None:
    if value is None or isinstance(value, str | bytes):
        return value
    raise ConfigError(
        f"{who}: tls: password is not valid, expected a string"
    )  # its value is nobody's business


def _verify(value: Any, who: str) -> str:
    if isinstance(value, bool | str | None) and value in VERIFY:
        return VERIFY[value]
    raise _wrong(who, "verify", value, '"none" (or False), "optional" or "required" (or True)')


def _sni(value: Any, who: str) -> dict[str, Certificate]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _wrong(who, "sni", value, "a dict {host: (certfile, keyfile)}")
    return {_host(host, who): _pair(host, pair, who) for host, pair in value.items()}


def _host(host: Any, who: str) -> str:
    if isinstance(host, str) and host:
        try:
            name = host.removeprefix("*.").encode("idna").decode().lower().rstrip(".")
        except UnicodeError:
            name = ""
        if name and "*" not in name:
            return f"*.{name}" if host.startswith("*.") else name
    raise _wrong(who, "sni", host, "the names of hosts, as example.com or *.example.com")


def _pair(host: str, pair: Any, who: str) -> Certificate:
    key = f"sni[{host!r}]"
    if isinstance(pair, str | os.PathLike):
        return _certificate(pair, None, key, who)
    if isinstance(pair, Sequence) and len(pair) == 2:
        return _certificate(pair[0], pair[1], key, who)
    raise _wrong(who, key, pair, "(certfile, keyfile), or one file with both")


def alpn(value: Any, who: str) -> tuple[str, ...] | None:
    """The names to agree on by ALPN; None: not said. Raises ConfigError."""
    if value is None:
        return None
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        names = tuple(value)
        if all(
            isinstance(name, str) and name.isascii() and 0 < len(name) <= MAX_ALPN for name in names
        ):
            return names
    raise _wrong(who, "alpn", value, 'a list of protocol names, as ["http/1.1"]')


def _version(value: Any, who: str) -> str:
    if value is None:
        return "1.2"
    if value not in VERSIONS:
        raise _wrong(who, "min_version", value, '"1.2" or "1.3"')
    return str(value)


def _text(value: Any, key: str, expected: str, who: str) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise _wrong(who, key, value, expected)
