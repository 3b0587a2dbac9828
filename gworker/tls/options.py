"""What a Worker (`tls={...}`) or a client says about TLS: checked, and without loading anything.

The files are read later, in the processes that need them (`contexts`). Nothing here imports ssl:
the arbiter reads declarations as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

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

MAX_ALPN = 255  # bytes of one protocol's name (RFC 7301, 3.1)

# Offered by ALPN where HTTP is spoken. (The IANA registry has no name for the other protocols.)
WEB = ("http/1.1",)


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate chain and its key: absolute paths of PEM files, which may be the same."""

    certfile: str
    keyfile: str


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """The options of one Worker, or of a client.

    verify: whether the peer must show a certificate: `none`, `optional` or `required`.
    ca_certs: None: the system's, for a client.
    sni: by host, in lower case; `*.example.com` stands for one label.
    alpn: None: what the protocol of the address implies.
    """

    certificate: Certificate | None = None
    password: str | bytes | None = field(default=None, repr=False)
    ca_certs: str | None = None
    verify: str = "none"
    sni: Mapping[str, Certificate] = field(default_factory=dict, hash=False)
    alpn: tuple[str, ...] | None = None
    min_version: str = "1.2"
    ciphers: str | None = None

    def files(self) -> tuple[str, ...]:
        """The paths of all files that are read, each once."""
        found = [each for each in (self.certificate, *self.sni.values()) if each is not None]
        paths = [path for each in found for path in (each.certfile, each.keyfile)]
        return tuple(dict.fromkeys([*paths, *([self.ca_certs] if self.ca_certs else [])]))

    def certificate_for(self, host: str) -> str | None:
        """The key in `sni` for the host that a client asks for; None: the default certificate."""
        host = host.lower().rstrip(".")
        if host in self.sni:
            return host
        wildcard = "*." + host.partition(".")[2]
        return wildcard if wildcard in self.sni else None


def check_client(value: Mapping[str, object], where: str = "connect") -> TlsOptions:
    """The options in the dict `value`. Raises ConfigError naming the key and what was expected of
    it."""
    _check_keys(value, CLIENT_KEYS, where)
    verify = value.get("verify", True)
    if not isinstance(verify, bool):
        raise _wrong(where, "verify", verify, "True or False")
    return replace(_common(value, where), verify=VERIFY[verify])


def check(value: object, where: str = "Worker") -> TlsOptions:
    """The options in the dict `value`. Raises ConfigError naming the key and what was expected of
    it."""
    if isinstance(value, TlsOptions):
        return value
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{where}: tls={value!r} is not valid, expected a dict with {', '.join(KEYS)}"
        )
    _check_keys(value, KEYS, where)
    if value.get("certfile") is None:
        raise ConfigError(f"{where}: tls has no certfile, expected the path of a PEM file")
    verify = value.get("verify")
    if not isinstance(verify, bool | str | None) or verify not in VERIFY:
        expected = '"none" (or False), "optional" or "required" (or True)'
        raise _wrong(where, "verify", verify, expected)
    if VERIFY[verify] != "none" and value.get("ca_certs") is None:
        raise ConfigError(
            f"{where}: tls: verify={verify!r} needs ca_certs, the path of a PEM file with the "
            "certificates that may sign a client's"
        )
    version = value.get("min_version")
    if version not in (None, *VERSIONS):
        raise _wrong(where, "min_version", version, '"1.2" or "1.3"')
    ciphers = value.get("ciphers")
    if ciphers is not None and (not isinstance(ciphers, str) or not ciphers):
        raise _wrong(where, "ciphers", ciphers, "a string in the format of openssl-ciphers(1)")
    return replace(
        _common(value, where),
        verify=VERIFY[verify],
        sni=_sni(value.get("sni"), where),
        min_version=version or "1.2",
        ciphers=ciphers,
    )


def _common(value: Mapping[str, object], where: str) -> TlsOptions:
    certfile, password, ca_certs = (value.get(key) for key in ("certfile", "password", "ca_certs"))
    if not isinstance(password, str | bytes | None):
        # No message shows the password.
        raise ConfigError(f"{where}: tls: password is not valid, expected a string")
    return TlsOptions(
        None
        if certfile is None
        else _certificate(certfile, value.get("keyfile"), "certfile", where),
        password,
        None if ca_certs is None else _absolute(ca_certs, "ca_certs", where),
        alpn=_alpn(value.get("alpn"), where),
    )


def _check_keys(value: Iterable[object], known: Sequence[str], where: str) -> None:
    for key in value:
        if key not in known:
            raise ConfigError(
                f"{where}: tls has an unknown key {key!r}; there are {', '.join(known)}"
            )


def _wrong(where: str, key: str, value: object, expected: str) -> ConfigError:
    return ConfigError(f"{where}: tls: {key}={value!r} is not valid, expected {expected}")


def _absolute(path: object, key: str, where: str) -> str:
    # `path` as seen from the directory in which the target is loaded, wherever that goes later.
    found = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not found or not isinstance(found, str):
        raise _wrong(where, key, path, "the path of a PEM file")
    return directory.absolute(found)


def _certificate(certfile: object, keyfile: object, key: str, where: str) -> Certificate:
    path = _absolute(certfile, key, where)
    if keyfile is None:
        return Certificate(path, path)
    return Certificate(path, _absolute(keyfile, key.replace("certfile", "keyfile"), where))


def _sni(value: object, where: str) -> dict[str, Certificate]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _wrong(where, "sni", value, "a dict {host: (certfile, keyfile)}")
    return {_host(host, where): _pair(host, pair, where) for host, pair in value.items()}


def _host(host: object, where: str) -> str:
    if isinstance(host, str) and host:
        try:
            name = host.removeprefix("*.").encode("idna").decode().lower().rstrip(".")
        except UnicodeError:
            name = ""
        if name and "*" not in name:
            return f"*.{name}" if host.startswith("*.") else name
    raise _wrong(where, "sni", host, "the names of hosts, as example.com or *.example.com")


def _pair(host: object, pair: object, where: str) -> Certificate:
    key = f"sni[{host!r}]"
    if isinstance(pair, str | os.PathLike):
        return _certificate(pair, None, key, where)
    if isinstance(pair, Sequence) and len(pair) == 2:
        return _certificate(pair[0], pair[1], key, where)
    raise _wrong(where, key, pair, "(certfile, keyfile), or one file with both")


def _alpn(value: object, where: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        names = tuple(value)
        if all(
            isinstance(each, str) and each.isascii() and 0 < len(each) <= MAX_ALPN for each in names
        ):
            return names
    raise _wrong(where, "alpn", value, 'a list of protocol names, as ["http/1.1"]')
