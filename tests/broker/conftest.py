"""For the tests that run over every broker."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from broker_process import Process
from broker_servers import KINDS, Server, chosen


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames:
        kinds = chosen(metafunc.config.getoption("--brokers"))
        metafunc.parametrize("server", kinds, indirect=True, scope="module")


@pytest.fixture(scope="module")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server of the kind that is tested."""
    directory: Path = tmp_path_factory.mktemp("broker")
    with KINDS[request.param](directory) as server:
        yield server


@pytest.fixture
def brokers(server: Server) -> Iterator[Callable[[], Process]]:
    """`brokers()`: one more process with a broker, on the same server."""
    made: list[Process] = []

    def one() -> Process:
        made.append(Process(server.make()))
        return made[-1]

    yield one
    for each in made:
        each.broker.close()


@pytest.fixture
def process(brokers: Callable[[], Process]) -> Process:
    return brokers()


@pytest.fixture
def token() -> bytes:
    """What no other test has in its names."""
    return secrets.token_hex(6).encode()


@pytest.fixture
def room(token: bytes) -> bytes:
    """The channel of a group."""
    return b"g:" + token


@pytest.fixture
def key(token: bytes) -> bytes:
    """The channel of a key of data."""
    return b"d:" + token
