"""The broker for tests: how a test breaks and mends it. The rest is in `test_conformance.py`."""

from __future__ import annotations

import time

import pytest
from broker_process import Process

from gworker.broker.memory import MemoryBroker, MemoryServer
from gworker.errors import BrokerDown


def test_a_broker_that_is_broken_off_and_restored() -> None:
    server = MemoryServer()
    broker, other = MemoryBroker(server), Process(MemoryBroker(server))
    process = Process(broker)
    process.subscribe(b"g:a")
    first = process.name
    process.call("enter", b"g:a", first, b"", b"m1", b"ann", b"", 1)

    before = time.time()
    broker.break_off()
    assert broker.state == "down"
    assert other.call("publish", b"g:a", b"nobody hears it") == 0
    assert other.call("count", b"g:a") == 0
    with pytest.raises(BrokerDown) as caught:
        process.call("publish", b"g:a", b"x")
    assert not caught.value.uncertain
    broker.post("set", b"d:a", b"dropped", b"0")
    with pytest.raises(BrokerDown):
        process.subscribe(b"g:b")
    broker.unsubscribe([b"g:none"])

    broker.restore()
    process.wait_for(lambda: process.states == ["up", "down", "up"])
    assert process.fenced == 1
    assert process.name != first
    [(channels, since, until)] = process.interrupted
    assert sorted(channels) == [b"g:a", b"g:b"]
    assert before <= since <= until <= time.time()
    assert other.call("publish", b"g:b", b"heard") == 1
    assert process.wait_for_payloads(b"g:b", 1) == [b"\0heard"]
    assert process.payloads(b"g:a") == []
    assert other.call("get", b"d:a") is None
    process.call("enter", b"g:a", process.name, b"", b"m1", b"ann", b"", 1)
    assert other.call("count", b"g:a") == 1


def test_brokers_with_servers_of_their_own_share_nothing() -> None:
    one, other = Process(MemoryBroker()), Process(MemoryBroker())
    one.subscribe(b"g:a")
    assert other.call("publish", b"g:a", b"x") == 0


def test_a_message_may_be_answered_while_it_is_delivered() -> None:
    class Answering(Process):
        def on_message(self, channel: bytes, payload: bytes) -> None:
            super().on_message(channel, payload)
            if payload == b"\0ask":
                assert self.call("publish", b"g:a", b"answer") == 1

    process = Answering(MemoryBroker())
    process.subscribe(b"g:a")
    process.call("publish", b"g:a", b"ask")
    assert process.wait_for_payloads(b"g:a", 2) == [b"\0ask", b"\0answer"]
