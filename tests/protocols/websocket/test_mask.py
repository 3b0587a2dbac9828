from __future__ import annotations

import importlib
import sys

import pytest
import websockets.speedups
import websockets.utils
from hypothesis import given
from hypothesis import strategies as st

from gworker.protocols.websocket import mask as websocket_mask


@pytest.mark.parametrize(
    "function", [websocket_mask.apply_mask, websockets.utils.apply_mask], ids=["fast", "slow"]
)
@given(data=st.binary(max_size=300), mask=st.binary(min_size=4, max_size=4))
def test_masks(function, data, mask):
    expected = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
    assert function(data, mask) == function(memoryview(data), bytearray(mask)) == expected


def test_the_fast_one_is_used():
    assert websocket_mask.apply_mask is websockets.speedups.apply_mask


def test_without_it_the_slow_one_is(monkeypatch):
    with monkeypatch.context() as missing:
        missing.setitem(sys.modules, "websockets.speedups", None)
        importlib.reload(websocket_mask)
        assert websocket_mask.apply_mask is websockets.utils.apply_mask
    importlib.reload(websocket_mask)
    assert websocket_mask.apply_mask is websockets.speedups.apply_mask
