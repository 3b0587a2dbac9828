"""The options of TLS: what is refused, and what is kept secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pki import Pki

from gworker.app.worker import Worker
from gworker.errors import ConfigError
from gworker.tls.contexts import client_context
from gworker.tls.options import check as check_options
from gworker.tls.options import check_client


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
