from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gworker.errors import ProtocolError
from gworker.protocols import EOF, NEED_DATA, PackageProtocol


class Netstring(PackageProtocol):
    def package_length(self, buffer: bytes) -> int | None:
        colon = buffer.find(b":", 0, 8)
        if colon < 0:
            if len(buffer) > 7:
                raise ProtocolError("no length", b"bye")
            return None
        return colon + 1 + int(buffer[:colon]) + 1

    def decode(self, package: bytes) -> str:
        if not package.endswith(b","):
            raise ProtocolError("no comma")
        return package[package.index(b":") + 1 : -1].decode()

    def encode(self, message: Any) -> bytes:
        return b"%d:%b," % (len(message), message.encode())


def make() -> Netstring:
    return Netstring(50)


def test_packages(drive):
    assert drive.every_way(make, b"2:hi,0:,3:abc,5:ab").events == ["hi", "", "abc"]
    assert drive.every_way(make, b"2:hi,5:ab", end=True).events == ["hi", EOF]


@given(st.lists(st.text(st.characters(max_codepoint=127), max_size=40)), st.lists(st.integers(0)))
def test_any_cut_gives_the_same_packages(drive, messages, cuts):
    data = b"".join(make().encode(message) for message in messages)
    assert drive.cut(make, data, cuts, end=True).events == [*messages, EOF]


class Counting(Netstring):
    """How many bytes it was asked about."""

    seen = 0

    def package_length(self, buffer: bytes) -> int | None:
        self.seen += len(buffer)
        return super().package_length(buffer)


@pytest.mark.parametrize("kept", [False, True], ids=["one read", "behind an incomplete package"])
def test_many_packages_in_one_read_are_not_copied_for_each(kept):
    protocol = Counting(50)
    data = b"2:hi," * 20_000
    if kept:
        protocol.receive_data(b"2:")
        assert protocol.next_event() is NEED_DATA
        data = data[2:]
    protocol.receive_data(data)
    assert [protocol.next_event() for _ in range(20_001)] == ["hi"] * 20_000 + [NEED_DATA]
    assert protocol.seen < 300 * 20_000


def test_a_length_that_stands_far_behind_is_found():
    class Lines(PackageProtocol):
        def package_length(self, buffer: bytes) -> int | None:
            return buffer.find(b"\n") + 1 or None

        def decode(self, package: bytes) -> bytes:
            return package

    protocol = Lines(100_000)
    lines = [b"x" * size + b"\n" for size in (0, 254, 255, 256, 257, 2047, 2048, 20_000, 70_000, 3)]
    protocol.receive_data(b"".join(lines) + b"no end")
    assert [protocol.next_event() for _ in range(len(lines) + 1)] == [*lines, NEED_DATA]


def test_errors_of_the_subclass_end_the_connection(drive):
    assert drive.every_way(make, b"2:hi;").error == "no comma"
    transcript = drive.every_way(make, b"nonsense")
    assert transcript.error == "no length"
    assert transcript.output == b"bye"


def test_longer_than_the_limit(drive):
    assert (
        drive.every_way(make, b"47:").error
        == "Netstring.package_length says 51, which is not between 1 and 50"
    )


def answering(answer: Any) -> PackageProtocol:
    class Fixed(PackageProtocol):
        def package_length(self, buffer: bytes) -> Any:
            return answer

        def decode(self, package: bytes) -> bytes:
            return package

    return Fixed(50)


@pytest.mark.parametrize("length", [0, -1, 51])
def test_impossible_length(length):
    protocol = answering(length)
    protocol.receive_data(b"abc")
    with pytest.raises(ProtocolError, match=f"Fixed.package_length says {length}, "):
        protocol.next_event()
    assert protocol.next_event() is EOF


@pytest.mark.parametrize("length", ["3", 3.0, True, b""])
def test_length_of_a_wrong_type_is_a_bug_with_a_name(length):
    protocol = answering(length)
    protocol.receive_data(b"abc")
    with pytest.raises(TypeError, match=r"Fixed\.package_length returned .* not an int or None"):
        protocol.next_event()


def test_never_knowing_the_length_is_bounded():
    protocol = answering(None)
    for _ in range(4):
        protocol.receive_data(b"x" * 12)
        assert protocol.next_event() is NEED_DATA
    protocol.receive_data(b"x" * 12)
    with pytest.raises(ProtocolError, match="no package within 50 bytes"):
        protocol.next_event()
    assert protocol.take_unparsed() == b""


def test_length_is_asked_once_per_package():
    asked = []

    class Counting(Netstring):
        def package_length(self, buffer: bytes) -> int | None:
            asked.append(bytes(buffer))
            return super().package_length(buffer)

    protocol = Counting(50)
    for byte in b"9:123456789,":
        protocol.receive_data(bytes([byte]))
        protocol.next_event()
    assert asked == [b"9", b"9:"]


def test_name_defaults_to_the_class():
    assert Netstring.name == "Netstring"
    assert type("Named", (PackageProtocol,), {"name": "wire"}).name == "wire"
    assert PackageProtocol.name == ""


def test_subclass_has_to_say_how():
    with pytest.raises(TypeError, match="abstract methods '?decode'?, '?package_length'?$"):
        PackageProtocol(10)
