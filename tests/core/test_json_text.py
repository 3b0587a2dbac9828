"""JSON text: what no document may have, and that a fault leaves nothing behind."""

from __future__ import annotations

import pytest

from gworker.core.json_text import encode_json


def test_text_is_not_bound_to_ascii() -> None:
    assert encode_json({"a": ["é", 1.5, None, True]}) == '{"a": ["é", 1.5, null, true]}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")]])
def test_no_number_that_json_lacks(value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_json(value)


def test_what_contains_itself_is_refused_and_nothing_else_afterwards() -> None:
    inner: list[object] = []
    outer = {"a": inner}
    inner.append(outer)
    with pytest.raises(ValueError, match="[Cc]ircular"):
        encode_json(outer)
    inner.clear()
    assert encode_json(outer) == '{"a": []}'  # the same objects, without the circle


def test_what_is_no_json_is_named() -> None:
    with pytest.raises(TypeError, match="Object of type set is not JSON serializable"):
        encode_json([{1}])
