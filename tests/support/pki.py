"""Certificates for tests: one authority, and what it issues, as PEM files."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives import serialization


class Pki:
    """An authority whose certificate is `ca.pem` in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(str(directory / "ca.pem"))
        self.ca = str(directory / "ca.pem")

    def issue(self, name: str, *hosts: str, days: float = 30) -> tuple[str, str]:
        """Write NAME.pem and NAME.key, in place of older ones; return their paths."""
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        begin = end - datetime.timedelta(days=60)
        made = self.authority.issue_cert(*hosts, common_name=name, not_after=end, not_before=begin)
        certfile, keyfile = str(self.directory / f"{name}.pem"), str(self.directory / f"{name}.key")
        made.private_key_pem.write_to_path(keyfile)
        Path(certfile).write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
        return certfile, keyfile

    def encrypt(self, keyfile: str, password: str) -> str:
        """Write the key a second time, encrypted; return the path."""
        key = serialization.load_pem_private_key(Path(keyfile).read_bytes(), None)
        data = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password.encode()),
        )
        Path(keyfile + ".encrypted").write_bytes(data)
        return keyfile + ".encrypted"

    def client(self, *pair: str, alpn: list[str] | None = None) -> ssl.SSLContext:
        """A context for a client of the standard library, with a certificate of its own if `pair`
        is one."""
        context = ssl.create_default_context(cafile=self.ca)
        if pair:
            context.load_cert_chain(*pair)
        if alpn:
            context.set_alpn_protocols(alpn)
        return context


def serial(certificate: dict[str, Any] | None) -> str:
    """The serial number in what `getpeercert()` shows."""
    assert certificate is not None
    return str(certificate["serialNumber"])
