"""What a Worker says about its WebSockets."""

from __future__ import annotations

import pytest

from gworker import Worker
from gworker.errors import ConfigError
from gworker.protocols.websocket.options import (
    Compression,
    Origins,
    compression,
    origins,
    subprotocols,
)


def test_names_of_subprotocols():
    assert subprotocols(["v2", "v1"]) == ("v2", "v1")
    for wrong in ("v1", b"v1", 5, ["a b"], [""], [1], {"a": 1}):
        with pytest.raises(ValueError, match="list of names"):
            subprotocols(wrong)


def allowed(*entries: str) -> Origins:
    value = origins(entries)
    assert value is not None
    return value


@pytest.mark.parametrize(
    ("entries", "origin", "allow"),
    [
        (["https://example.com"], "https://example.com", True),
        (["https://Example.com:443"], "https://example.com", True),
        (["https://example.com"], "https://example.com:443", False),  # browsers leave it out
        (["https://example.com:8443"], "https://example.com:8443", True),
        (["http://[::1]:8000"], "http://[::1]:8000", True),
        (["https://*.example.com"], "https://a.b.example.com", True),
        (["https://*.example.com"], "https://example.com", False),
        (["https://*.example.com:8443"], "https://a.example.com", False),
        (["https://*.example.com"], "http://a.example.com", False),
        ([], "https://example.com", False),
        (["null"], "null", True),
        (["https://example.com"], "null", False),
        (["*"], "null", True),
        (["*"], "whatever", True),
    ],
)
def test_origins(entries, origin, allow):
    assert allowed(*entries).allow(origin) is allow


@pytest.mark.parametrize(
    "entry",
    [
        "example.com",
        "https://example.com/",
        "https://*",
        "https://a.*.com",
        "https://a b",
        "",
        5,
        None,
    ],
)
def test_no_origins(entry):
    with pytest.raises(ValueError, match="SCHEME://HOST"):
        origins([entry])
    with pytest.raises(ValueError, match="list of origins"):
        origins("https://example.com")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compression": "yes"}, "compression='yes' is not valid, expected True, False"),
        ({"subprotocols": "v1"}, "subprotocols='v1' is not valid, expected a list of names"),
        ({"origins": ["example.com"]}, "expected SCHEME://HOST.* instead of 'example.com'"),
        ({"ping_interval": -1}, "ping_interval=-1 is not a number from 0"),
    ],
)
def test_a_worker_names_what_is_wrong(options, message):
    with pytest.raises(ConfigError, match=message):
        Worker("websocket://127.0.0.1:0", **options)


@pytest.mark.parametrize(
    ("value", "used"),
    [
        (None, None),
        (False, None),
        (True, Compression()),
        ("context-takeover", Compression(context_takeover=True)),
        ({"level": 9, "threshold": 1}, Compression(level=9, threshold=1)),
        ({"context_takeover": True, "window_bits": 9}, Compression(True, window_bits=9)),
    ],
)
def test_values_of_the_option(value, used):
    assert compression(value) == used


@pytest.mark.parametrize(
    "value",
    [
        "yes",
        1,
        {"level": 0},
        {"level": True},
        {"window_bits": 7},
        {"threshold": 0},
        {"x": 1},
        {"context_takeover": 1},
    ],
)
def test_no_values_of_the_option(value):
    with pytest.raises(ValueError, match="context-takeover"):
        compression(value)
