"""What has to fit together in a Worker."""

from __future__ import annotations

from typing import Any

import pytest

from gworker.app.validation import (
    check,
    check_inner,
    datagram_protocol,
    implied_alpn,
    protocol_class,
    protocol_of,
)
from gworker.app.worker import Worker
from gworker.errors import ConfigError
from gworker.protocols import PackageProtocol, Protocol, get
from gworker.protocols.lockstep import Lockstep
from gworker.system.address import parse


@pytest.mark.parametrize(
    ("worker", "fault"),
    [
        (
            Worker("tcp://:1", unix_mode=0o600),
            "unix_mode is for unix sockets, and it listens on tcp://0.0.0.0:1",
        ),
        (
            Worker("http://:1", transport="udp"),
            "the http protocol needs connections, and UDP has none",
        ),
        (Worker("udp://:1", protocol="websocket"), "the websocket protocol needs connections"),
    ],
)
def test_what_does_not_fit_together(worker: Worker, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        check(worker)


def test_a_worker_that_hears_nothing_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    check(Worker("text://127.0.0.1:0", on_message=lambda connection, line: None))
    assert not caplog.records
    check(Worker("text://127.0.0.1:0"))
    assert "has no on_message" in caplog.text


@pytest.mark.parametrize("protocol", [5, dict, "nonsense"])
def test_what_is_no_protocol(protocol: Any) -> None:
    with pytest.raises(ConfigError):
        check(Worker("tcp://127.0.0.1:0", protocol=protocol))


def test_the_protocol_is_that_of_the_scheme_or_of_the_worker() -> None:
    assert protocol_of(Worker("text://:1"), "text://:1") is get("text")
    assert protocol_of(Worker("wss://:1"), "WSS://:1") is get("websocket")
    assert protocol_of(Worker("unix:///x"), "unix:///x") is get("tcp")
    assert protocol_of(Worker("tcp://:1", protocol="frame"), "tcp://:1") is get("frame")
    assert issubclass(protocol_of(Worker("text://:1", lockstep=True), "text://:1"), Lockstep)


def test_a_protocol_that_cannot_receive_anything() -> None:
    class Half(PackageProtocol):
        pass

    class Nothing(Protocol):
        pass

    for each in (Half, Nothing):
        with pytest.raises(ConfigError, match="address 'tcp://:1'"):
            protocol_class(each, "tcp://:1")


@pytest.mark.parametrize(
    ("url", "attributes"),
    [
        ("tls://127.0.0.1:0", {}),
        ("udp://127.0.0.1:0", {}),
        ("tcp://127.0.0.1:0", {"handler": lambda connection: None}),
    ],
)
def test_a_worker_inside_a_process_has_limits(url: str, attributes: dict[str, Any]) -> None:
    declared = Worker(url, **attributes)
    with pytest.raises(ConfigError, match="inside a process of another Worker it needs"):
        check_inner(declared, parse(url))


def test_datagrams() -> None:
    assert datagram_protocol(Worker("udp://:1"), "udp://:1", "me") is get("udp")
    with pytest.raises(ConfigError, match="^me: the http protocol needs connections"):
        datagram_protocol(Worker("udp://:1", protocol="http"), "udp://:1", "me")


def test_what_is_offered_by_alpn_without_a_word_of_the_worker() -> None:
    assert implied_alpn(Worker("https://:1"), "https://:1") == ("http/1.1",)
    assert implied_alpn(Worker("tls://:1"), "tls://:1") == ()
