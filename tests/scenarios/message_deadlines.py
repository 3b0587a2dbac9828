"""Calls that take several steps, while each step is slow; and calls that fail on the way. Over the
broker that BROKER names: `local`, or `redis`."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import broker_faults
import fault_proxy
import gevent
import redis_servers
from broker_faults import BrokerProcess
from messaging import Process, run_in, settle, until
from scenario_process import run

from gworker import messages
from gworker.broker.interface import CALL_SECONDS
from gworker.broker.local import LocalBroker
from gworker.broker.redis.broker import RedisBroker
from gworker.broker.url import parse
from gworker.errors import BrokerDown

DECLARED = (
    {"pattern": "kept*", "mode": "recoverable", "presence": True},
    {"pattern": "last*", "mode": "latest", "presence": True},
    {"pattern": "seen*", "presence": True},
)


class Local:
    """The way to a broker process."""

    def __init__(self):
        self._server = BrokerProcess()
        self._proxy = broker_faults.FaultProxy(f"{self._server.path}-proxy", self._server.path)

    def broker(self):
        return LocalBroker(self._proxy.path)

    def slow_down(self, seconds):
        self._proxy.delay = seconds

    def lose_answers(self):
        self._proxy.passes_down = False

    def close(self):
        self._proxy.heal()
        self._proxy.close()
        self._server.close()


class Redis:
    """The way to a Redis."""

    def __init__(self):
        self._directory = tempfile.TemporaryDirectory()
        program = redis_servers.redis_program()
        self._server = redis_servers.Server(Path(self._directory.name), program)
        self._proxy = fault_proxy.tcp_proxy(self._server.port)

    def broker(self):
        return RedisBroker(parse(self._proxy.url), "scenario", "here")

    def slow_down(self, seconds):
        self._proxy.fault, self._proxy.delay = "slow", seconds

    def lose_answers(self):
        self._proxy.fault = "half-open"

    def close(self):
        self._proxy.close()
        self._server.kill()
        self._directory.cleanup()


@contextmanager
def started():
    """A process, and its way to the broker."""
    way = {"local": Local, "redis": Redis}[os.environ["BROKER"]]()
    process = Process(way.broker, *DECLARED)
    try:
        process.service.start_messaging(5)
        run_in(process)
        until(lambda: process.messages.state == "up")
        yield process, way
        process.messages.end()
    finally:
        way.close()


def seconds_of(call):
    """How long a call takes, whether it fails or not."""
    began = time.monotonic()
    with suppress(BrokerDown):
        call()
    return time.monotonic() - began


def check_in_time(prepare):
    """prepare: returns the call to be made, in a process that it is given."""
    with started() as (process, way):
        call = prepare(process)
        settle()
        way.slow_down(0.4)
        took = seconds_of(call)
        assert took <= CALL_SECONDS + 0.05, took
        way.slow_down(0)


def test_a_join_with_all_there_is():
    def prepare(process):
        at = messages.publish("kept", "1").position
        one = process.connect()
        return lambda: one.connection.join("kept", since=at, presence={"a": 1})

    check_in_time(prepare)


def test_a_join_that_needs_no_broker():
    def prepare(process):
        one = process.connect()
        return lambda: one.connection.join("last", presence={"a": 1})

    check_in_time(prepare)


def test_a_bind_of_a_member_of_many():
    def prepare(process):
        one = process.connect()
        for number in range(5):
            one.connection.join(f"seen{number}")
        return lambda: one.connection.bind("anna", single=True)

    check_in_time(prepare)


def test_an_unbind_of_a_member_of_many():
    def prepare(process):
        one = process.connect()
        one.connection.bind("anna")
        for number in range(5):
            one.connection.join(f"seen{number}")
        return one.connection.unbind

    check_in_time(prepare)


def test_a_message_to_all_but_one_that_was_never_named():
    def prepare(process):
        one = process.connect()
        groups = [f"room{number}" for number in range(20)]
        return lambda: messages.publish_many(groups, "x", exclude=one.connection)

    check_in_time(prepare)


def test_the_first_use():
    way = {"local": Local, "redis": Redis}[os.environ["BROKER"]]()
    way.slow_down(0.4)
    process = Process(way.broker, *DECLARED)
    try:
        took = seconds_of(process.service.start_messaging)
        assert took <= CALL_SECONDS + 0.05, took
    finally:
        process.messages.end()
        way.close()


def test_a_message_to_many_over_a_slow_way_reaches_all():
    with started() as (_process, way):
        way.slow_down(0.1)
        groups = [f"room{number}" for number in range(100)]
        assert list(messages.publish_many(groups, "x")) == groups
        way.slow_down(0)


def test_a_message_to_many_of_which_no_answer_comes_may_have_been_published():
    with started() as (_process, way):
        settle()  # what is not sent yet is certain
        way.lose_answers()
        try:
            messages.publish_many(["room1", "room2"], "x")
        except BrokerDown as error:
            assert error.uncertain
        else:
            raise AssertionError("it has had no answer")


def test_two_joins_of_one_connection_at_once():
    for group, since in (("kept", True), ("last", False), ("seen", False)):
        with started() as (process, way):
            at = messages.publish(group, "0").position
            messages.publish(group, "1")
            one = process.connect()
            way.slow_down(0.05)
            both = [
                gevent.spawn(one.connection.join, group, since=at if since else None)
                for _ in range(2)
            ]
            joined = [each.get(timeout=5) for each in both]
            way.slow_down(0)
            assert {each.recovered for each in joined} == {since}, joined
            assert {each.missed for each in joined} == {int(since)}, joined
            assert {each.position for each in joined} == {messages.position(group)}, joined
            settle()
            one.read()
            messages.publish(group, "2")
            until(lambda one=one: one.read() == b"2\n", 2)
            assert one.connection.groups == [group]
            assert messages.count(group) == 1


def test_of_two_joins_at_once_the_second_succeeds_when_the_first_is_given_up():
    with started() as (process, way):
        at = messages.publish("kept", "0").position
        messages.publish("kept", "1")
        one = process.connect()
        way.slow_down(0.2)
        first = gevent.spawn(one.connection.join, "kept", since=at)
        gevent.sleep(0.01)
        second = gevent.spawn(one.connection.join, "kept", since=at)
        gevent.sleep(0.01)
        first.kill()
        joined = second.get(timeout=5)
        way.slow_down(0)
        assert (joined.recovered, joined.missed) == (True, 1)
        assert one.connection.groups == ["kept"]


if __name__ == "__main__":
    run(globals())
