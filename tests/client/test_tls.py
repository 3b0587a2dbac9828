"""TLS of what this process dials: contexts that are made once, and names of servers."""

from __future__ import annotations

import _socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from gevent import get_hub
from pki import Pki

from gworker.client import tls
from gworker.client.url import parse
from gworker.errors import ConfigError
from gworker.tls.contexts import Contexts, client_context
from gworker.tls.handshake import Handshake
from gworker.tls.options import TlsOptions, check
from gworker.tls.socket import TlsSocket


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def test_contexts_of_dialled_connections_are_made_once(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the same options and files; the name of the server makes no difference, and errors are
    not kept."""
    made: list[TlsOptions] = []

    def make(options: TlsOptions, who: str) -> ssl.SSLContext:
        made.append(options)
        return client_context(options, who)

    monkeypatch.setattr(tls, "client_context", make)
    monkeypatch.setattr(tls, "_contexts", {})
    authorities = tmp_path / "ca.pem"
    authorities.write_bytes(Path(pki.ca).read_bytes())
    target = parse("tls://localhost:1")
    options: dict[str, Any] = {"ca_certs": str(authorities), "alpn": ["a"]}
    for name in ("one", "two"):
        tls.wrapper(target, {**options, "server_hostname": name})
    assert len(made) == 1
    tls.wrapper(target, {**options, "alpn": ["b"]})
    assert len(made) == 2
    authorities.write_bytes(Path(pki.ca).read_bytes() * 2)
    tls.wrapper(target, options)
    assert len(made) == 3
    authorities.unlink()
    for _ in range(2):
        with pytest.raises(
            ConfigError, match=r"^connect to tls://localhost:1: tls: ca_certs .*: No such file"
        ):
            tls.wrapper(target, options)
    for number in range(tls.KEPT):
        tls.wrapper(target, {"ca_certs": pki.ca, "alpn": [str(number)]})
    assert len(tls._contexts) == tls.KEPT
    made.clear()
    tls.wrapper(target, {"ca_certs": pki.ca, "alpn": ["0"]})
    assert not made


def test_a_server_whose_name_is_not_ascii(pki: Pki) -> None:
    """Its certificate has it as DNS does."""
    certfile, keyfile = pki.issue("server", "bücher.example")
    at_server = Contexts(check({"certfile": certfile, "keyfile": keyfile}), "w").get(())
    for url, options in (
        ("tls://bücher.example:1", {}),
        ("tls://127.0.0.1:1", {"server_hostname": "bücher.example"}),
    ):
        ours, theirs = _socket.socketpair()
        for each in (ours, theirs):
            each.setblocking(False)
        one = TlsSocket(ours, at_server, server_side=True)
        served = Handshake(get_hub().loop, one, lambda: None, lambda why: None)
        served.start()
        two = tls.wrapper(parse(url), {"ca_certs": pki.ca, **options})(theirs)
        assert two.info.version == "TLSv1.3"
        served.cancel()  # the watcher of a closed descriptor would abort the event loop
        one.close()
        two.close()
    with pytest.raises(
        ConfigError, match=r"^connect to tls://127.0.0.1:1: 'ü\.\.b' is no name of a host: "
    ):
        tls.wrapper(parse("tls://127.0.0.1:1"), {"verify": False, "server_hostname": "ü..b"})
