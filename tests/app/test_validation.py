"""What has to fit together in a Worker."""

from __future__ import annotations

import re
from collections.abc import Callable
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


def test_tls_and_the_address_have_to_fit(files: dict[str, str]) -> None:
    with pytest.raises(
        ConfigError, match=r"Worker 'a': https://127\.0\.0\.1:0 needs a certificate: tls="
    ):
        check(Worker("https://127.0.0.1:0", name="a"))
    with pytest.raises(
        ConfigError, match=r"Worker 'b': tls is given, and http://127\.0\.0\.1:0 is without TLS"
    ):
        check(Worker("http://127.0.0.1:0", name="b", tls=files))
    check(Worker("text://127.0.0.1:0", name="c", transport="ssl", tls=files))
    check(Worker(name="d", tls=files))
    with pytest.raises(ConfigError, match=r"Worker 'e': tls: certfile /none: No such file"):
        check(Worker(name="e", tls={"certfile": "/none"}))


@pytest.mark.parametrize(
    ("worker", "why"),
    [
        (lambda: Worker("text://127.0.0.1:0", unix_mode=0o600), "unix_mode is for unix sockets"),
        (lambda: Worker("udp://127.0.0.1:0", proxy_protocol=True), "proxy_protocol is for conn"),
        (lambda: Worker("udp://127.0.0.1:0", handler=lambda connection: None), "use on_message"),
        (lambda: Worker("http://127.0.0.1:0", transport="udp"), "the http protocol needs conn"),
        (lambda: Worker("tcp://127.0.0.1:0", protocol=int), "neither a name nor a Protocol class"),
        (lambda: Worker("tcp://127.0.0.1:0", protocol="nosuch"), "nosuch"),
        (lambda: Worker("unix:///x", unix_user="no-such-user"), "unix_user or unix_group: "),
    ],
)
def test_what_does_not_fit_is_refused_in_words(worker: Callable[[], Worker], why: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)):
        check(worker())
