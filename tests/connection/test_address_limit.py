"""How many connections an address has: what counts as one address, and the counts."""

from __future__ import annotations

from typing import Any

import pytest

from gworker.connection.address_limit import AddressLimit, key_of


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("192.0.2.1", 1), ("192.0.2.1", 2), True),
        (("192.0.2.1", 1), ("192.0.2.2", 1), False),
        (("2001:db8:0:1::1", 1, 0, 0), ("2001:db8:0:1:ffff::2", 2, 0, 0), True),
        (("2001:db8:0:1::1", 1, 0, 0), ("2001:db8:0:2::1", 1, 0, 0), False),
        (("::ffff:192.0.2.1", 1, 0, 0), ("192.0.2.1", 2), True),
        (("::ffff:192.0.2.1", 1, 0, 0), ("::ffff:192.0.2.2", 1, 0, 0), False),
        (("fe80::1%eth0", 1, 0, 2), ("fe80::2%eth0", 1, 0, 2), True),
    ],
)
def test_what_counts_as_one_address(one: Any, other: Any, same: bool) -> None:
    assert (key_of(one) == key_of(other)) is same


def test_counts_go_up_and_down_and_leave_nothing() -> None:
    crowd = AddressLimit(2)
    one, other = ("192.0.2.1", 1), ("192.0.2.2", 1)
    crowd.add(one)
    assert not crowd.is_full(one)
    crowd.add(one)
    assert crowd.is_full(one)
    assert not crowd.is_full(other)
    crowd.remove(one)
    assert not crowd.is_full(one)
    crowd.remove(one)
    assert crowd.counts == {}


@pytest.mark.parametrize("address", ["", b"\0name", None])
def test_unix_sockets_have_no_address(address: Any) -> None:
    crowd = AddressLimit(1)
    crowd.add(address)
    crowd.add(address)
    assert not crowd.is_full(address)
    crowd.remove(address)
    assert crowd.counts == {}
