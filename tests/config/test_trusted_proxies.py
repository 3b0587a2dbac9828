"""Networks and sockets whose fields are believed: how a list is read and asked."""

from __future__ import annotations

import pytest

from gworker.config.trusted_proxies import Trust


@pytest.mark.parametrize(
    ("text", "ip", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("10.0.0.0/8 2001:db8::/32", "2001:db8:1::1", True),
        ("10.0.0.0/8,2001:db8::/32", "2001:db9::1", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("*", "203.0.113.1", True),
        ("*", "nonsense", False),
        ("", "127.0.0.1", False),
    ],
)
def test_trust(text: str, ip: str, expected: bool) -> None:
    assert Trust(text).has(ip) is expected
    assert Trust(text).has(ip) is expected  # as remembered
    assert Trust(text).has_peer((ip, 1)) is expected


def test_trust_in_unix_sockets() -> None:
    assert [Trust(text).has_peer("") for text in ("unix", "*", "127.0.0.1", "")] == [
        True,
        True,
        False,
        False,
    ]
    assert [bool(Trust(text)) for text in ("unix", "")] == [True, False]
