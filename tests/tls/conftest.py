"""Two ends of TLS, for the tests here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pki import Pki
from tls_pair import Pair, opened, server


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while opened:
        opened.pop().close()


@pytest.fixture
def pair(pki: Pki, files: dict[str, str]) -> Pair:
    """A server and a client that does not know it."""
    return Pair(server(files), pki.client())
