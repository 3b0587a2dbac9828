"""A declaration travels as JSON, and says where its Worker listens."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from gworker.errors import ConfigError
from gworker.ipc.declaration import Declaration

WEB = Declaration("web", "http://127.0.0.1:8000", None, 2, None, None, True, False, 16)


def test_it_travels() -> None:
    travelled = json.loads(json.dumps(asdict(WEB)))
    assert json.loads(json.dumps(asdict(Declaration(**travelled)))) == travelled
    assert travelled["listen"] == "http://127.0.0.1:8000"


def test_its_address() -> None:
    address = WEB.address()
    assert address is not None
    assert (address.transport, address.host, address.port) == ("tcp", "127.0.0.1", 8000)
    without = Declaration("jobs", None, None, None, None, None, True, False, 16)
    assert without.address() is None


def test_an_address_that_makes_no_sense_is_refused() -> None:
    wrong = Declaration("web", "tcp://nowhere", None, None, None, None, True, False, 16)
    with pytest.raises(ConfigError, match="tcp://nowhere"):
        wrong.address()
