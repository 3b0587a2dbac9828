"""Which protocols a ClientHello offers, and what is refused for want of a common one."""

from __future__ import annotations

import ssl

import pytest
from pki import Pki
from tls_pair import Pair, opened, server

from gworker.tls.alpn import has_common, offered
from gworker.tls.handshake import why


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
