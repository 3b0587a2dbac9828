from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gworker.protocols.websocket import mask as websocket_mask
from gworker.protocols.websocket.mask import xor_mask


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_masks(data, mask):
    expected = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
    assert xor_mask(data, mask) == websocket_mask.apply_mask(data, mask) == expected
    assert (
        xor_mask(memoryview(data), mask)
        == websocket_mask.apply_mask(memoryview(data), mask)
        == expected
    )


def test_the_fast_one_is_used():
    assert websocket_mask.apply_mask is not xor_mask


@pytest.mark.parametrize(
    "function", [lambda data, mask: bytes(data), lambda data, mask: xor_mask(data, mask) + b"\0"]
)
def test_a_wrong_one_is_not(monkeypatch, function):
    import websockets.speedups

    monkeypatch.setattr(websockets.speedups, "apply_mask", function)
    assert websocket_mask._choose() is xor_mask


def test_a_missing_one_is_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    assert websocket_mask._choose() is xor_mask
