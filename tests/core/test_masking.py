"""Masking, by each of the functions that may do it."""

from __future__ import annotations

import pytest
import websockets.speedups
from hypothesis import given
from hypothesis import strategies as st

from gworker import core
from gworker.core import masking


@pytest.mark.parametrize(
    "function",
    [core.apply_mask, masking.apply_mask, masking.xor_mask],
    ids=["core", "wheel", "own"],
)
@given(data=st.binary(max_size=300), mask=st.binary(min_size=4, max_size=4))
def test_masks(function, data, mask):
    expected = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
    assert function(data, mask) == function(memoryview(data), bytearray(mask)) == expected


def test_plain_python_takes_the_fast_one():
    assert masking.apply_mask is websockets.speedups.apply_mask
