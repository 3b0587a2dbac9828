"""The socket of the local broker: its file, what takes its place, and what children keep of it."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from gworker.errors import ConfigError
from gworker.master.broker_socket import BrokerSocket
from gworker.system.unix_socket import UnixFile


@pytest.fixture
def held() -> Iterator[BrokerSocket]:
    made = BrokerSocket(UnixFile(mode=0o640))
    yield made
    made.close()


def can_connect(address: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(address)
        except ConnectionRefusedError:
            return False
    return True


def test_its_file(held: BrokerSocket, tmp_path: Path) -> None:
    assert held.address == ""
    held.open(str(tmp_path / "app.broker"))
    assert stat.S_IMODE((tmp_path / "app.broker").stat().st_mode) == 0o640
    assert can_connect(str(tmp_path / "app.broker"))
    assert can_connect(held.address)
    held.close()
    assert os.listdir(tmp_path) == []


def test_what_a_killed_arbiter_has_left_is_replaced(held: BrokerSocket, tmp_path: Path) -> None:
    path = str(tmp_path / "app.broker")
    with socket.socket(socket.AF_UNIX) as before:
        before.bind(path)
        before.listen()
        held.open(path)
        assert os.fstat(held._files[0]).st_ino == os.stat(path).st_ino
    assert can_connect(path)


def test_a_file_that_is_no_socket_stays(held: BrokerSocket, tmp_path: Path) -> None:
    (tmp_path / "app.broker").write_text("precious")
    with pytest.raises(ConfigError, match="cannot open the socket of the broker .*/app.broker: "):
        held.open(str(tmp_path / "app.broker"))
    assert held.listeners == []
    assert (tmp_path / "app.broker").read_text() == "precious"


def test_a_file_that_is_gone_is_made_anew_and_children_use_the_first(
    held: BrokerSocket, tmp_path: Path
) -> None:
    path = tmp_path / "app.broker"
    assert held.restore(str(path)) is None, "it is not open"
    held.open(str(path))
    first = held.address
    assert held.restore(str(path)) is None
    assert held.restore(None) is None
    for _ in range(3):
        path.unlink()
        assert held.restore(str(path)) == str(path)
        assert held.address == first
        assert len(held.listeners) == 2
        assert can_connect(str(path))
        assert can_connect(first)
    held.close()
    assert not path.exists()


def test_over_an_exec(held: BrokerSocket, tmp_path: Path) -> None:
    held.open(str(tmp_path / "app.broker"))
    (tmp_path / "app.broker").unlink()
    held.restore(str(tmp_path / "app.broker"))
    document = held.document()
    assert sorted(held.descriptors()) == sorted(document["listeners"] + document["files"])
    after = BrokerSocket(UnixFile(mode=0o640))
    after.adopt(document["path"], [os.dup(each) for each in document["listeners"]],
                [os.dup(each) for each in document["files"]])  # fmt: skip
    assert after.restore(str(tmp_path / "app.broker")) is None
    held.close_in_child()
    assert can_connect(after.address)
    after.close()
    assert os.listdir(tmp_path) == []
