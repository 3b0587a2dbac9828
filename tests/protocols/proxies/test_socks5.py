"""What is said to a SOCKS5 proxy and by it, whole and byte by byte; what follows is not touched."""

from __future__ import annotations

import pytest
from proxy_dialogue import BEHIND, feed

from gworker.errors import ProtocolError
from gworker.protocols.proxies.socks5 import Socks5


@pytest.mark.parametrize(
    ("host", "encoded"),
    [
        ("192.0.2.7", b"\1\xc0\0\2\7"),
        ("2001:db8::1", b"\4" + bytes.fromhex("20010db8000000000000000000000001")),
        ("example.org", b"\3\x0bexample.org"),
        ("bücher.example", b"\3\x15xn--bcher-kva.example"),
    ],
)
def test_socks_asks_for_the_destination(host: str, encoded: bytes, pace: int) -> None:
    machine = Socks5(host, 443)
    assert machine.data_to_send() == b"\5\1\0"
    assert feed(machine, b"\5\0", pace) == b""
    assert machine.data_to_send() == b"\5\1\0" + encoded + b"\x01\xbb"
    assert machine.data_to_send() == b""
    assert not machine.is_done
    assert feed(machine, b"\5\0\0\1\x7f\0\0\1\x12\x34" + BEHIND, pace) == BEHIND
    assert machine.is_done


@pytest.mark.parametrize("bound", [b"\1" + bytes(4), b"\4" + bytes(16), b"\3\5proxy", b"\3\0"])
def test_socks_reads_the_whole_reply_whatever_address_is_in_it(bound: bytes, pace: int) -> None:
    machine = Socks5("192.0.2.7", 80)
    assert feed(machine, b"\5\0", pace) == b""
    assert feed(machine, b"\5\0\0" + bound + b"\0\0" + BEHIND, pace) == BEHIND


def test_socks_logs_in(pace: int) -> None:
    machine = Socks5("192.0.2.7", 80, "me", "pässword")
    assert machine.data_to_send() == b"\5\2\0\2"
    feed(machine, b"\5\2", pace)
    assert machine.data_to_send() == b"\1\2me\x09" + "pässword".encode()
    feed(machine, b"\1\0", pace)
    assert machine.data_to_send().startswith(b"\5\1\0\1")
    assert feed(machine, b"\5\0\0\1" + bytes(6) + BEHIND, pace) == BEHIND


def test_socks_with_a_login_that_the_proxy_does_not_ask_for() -> None:
    machine = Socks5("192.0.2.7", 80, "me", "password")
    machine.data_to_send()
    machine.take(b"\5\0")
    assert machine.data_to_send().startswith(b"\5\1\0\1")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([b"\4\0"], "does not speak SOCKS 5: its first byte is 0x04"),
        ([b"HT"], "does not speak SOCKS 5"),
        ([b"\5\xff"], "asks for a user and a password"),
        ([b"\5\2"], "not offered"),
        ([b"\5\1"], "not offered"),
        ([b"\5\0", b"\5\5\0\1"], "could not connect: connection refused"),
        ([b"\5\0", b"\5\x42\0\1"], "could not connect: reply 0x42"),
        ([b"\5\0", b"\4\0\0\1"], "not one of SOCKS 5"),
        ([b"\5\0", b"\5\0\0\2"], "unknown type of address"),
    ],
)
def test_socks_says_what_went_wrong(said: list[bytes], why: str, pace: int) -> None:
    machine = Socks5("192.0.2.7", 80)
    with pytest.raises(ProtocolError, match=why):
        for data in said:
            feed(machine, data, pace)


@pytest.mark.parametrize(
    ("said", "why"), [(b"\5\2", "refused user and password"), (b"\5\xff", "neither of our")]
)
def test_socks_login_refused(said: bytes, why: str) -> None:
    machine = Socks5("192.0.2.7", 80, "me", "wrong")
    with pytest.raises(ProtocolError, match=why):
        machine.take(said + b"\1\1")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("a" * 256, 80), "host name has 1 to 255 bytes, not 256"),
        (("", 80), "host name has 1 to 255"),
        (("h", 80, "u" * 256, "p"), "user has 1 to 255 bytes, not 256"),
        (("h", 80, "u", ""), "password has 1 to 255 bytes, not 0"),
    ],
)
def test_socks_refuses_what_it_cannot_carry(arguments: tuple[str, int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Socks5(*arguments)
