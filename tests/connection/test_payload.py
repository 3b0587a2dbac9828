"""What may be sent as bytes."""

from __future__ import annotations

import pytest

from gworker.connection.payload import check_payload, raw_bytes
from gworker.protocols import PackageProtocol


@pytest.mark.parametrize("data", [b"ab", bytearray(b"ab"), memoryview(b"ab")])
def test_raw_is_bytes_of_any_kind(data: object) -> None:
    assert raw_bytes(data) == b"ab"
    assert type(raw_bytes(data)) is bytes


@pytest.mark.parametrize("data", [5, "ab", [1, 2], None, True])
def test_anything_else_is_named(data: object) -> None:
    with pytest.raises(TypeError, match=f"takes bytes, not {type(data).__name__}"):
        raw_bytes(data)


def test_a_protocol_that_encodes_to_no_bytes_is_named() -> None:
    class Mine(PackageProtocol):
        def package_length(self, buffer: bytes) -> int:
            return 1

        def decode(self, package: bytes) -> bytes:
            return package

    check_payload(Mine(100), b"x")
    with pytest.raises(TypeError, match=r"Mine\.encode\(\) must return bytes, not NoneType"):
        check_payload(Mine(100), None)
