"""`link` and `local`: calls, subscriptions, and every way in which a link breaks.

With GEVENT=1 in the environment all of it is patched by gevent, as in a worker process.
"""

from __future__ import annotations

import os

if is_patched := os.environ.get("GEVENT") == "1":
    from gevent import get_hub, monkey

    monkey.patch_all()

    from gworker.process.brokers import ReadableSocket

import logging
import threading
import time
from contextlib import contextmanager

import scenario_process
from broker_faults import BrokerProcess, FaultProxy, until
from scenario_process import raises

from gworker.broker.link import link
from gworker.broker.local import LocalBroker
from gworker.errors import BrokerDown, BrokerError


class Listener:
    def __init__(self):
        self.messages, self.states, self.interruptions, self.fences = [], [], [], 0

    def on_message(self, channel, payload):
        self.messages.append((channel, payload[1:]))

    def on_state(self, state):
        self.states.append(state)

    def on_interrupted(self, channels, since, until):
        self.interruptions.append((list(channels), since, until))

    def on_fenced(self):
        self.fences += 1


def new_broker(path):
    if is_patched:
        return LocalBroker(path, get_hub().loop.run_callback, make_readable=ReadableSocket)
    return LocalBroker(path)


@contextmanager
def connected(is_through_proxy=False):
    """A broker process, a proxy or None, a broker that is up, and its listener."""
    server = BrokerProcess()
    proxy = FaultProxy(f"{server.path}-proxy", server.path) if is_through_proxy else None
    broker, listener = new_broker(proxy.path if proxy else server.path), Listener()
    try:
        broker.start(listener, 5)
        yield server, proxy, broker, listener
    finally:
        broker.close()
        if proxy:
            proxy.close()
        server.close()


def publish(broker, body=b"x", channel=b"g:a"):
    return broker.call("publish", channel, body)


def seconds_of(work):
    """How long it took to fail, and the error."""
    started = time.monotonic()
    try:
        work()
    except BrokerDown as error:
        return time.monotonic() - started, error
    raise AssertionError("it has not failed")


def is_whole(broker, listener, channel=b"g:a"):
    """What is published comes back."""
    body = os.urandom(8)
    try:
        publish(broker, body, channel)
    except BrokerDown:
        return False
    until(lambda: (channel, body) in listener.messages)
    return True


def in_threads(count, work):
    threads = [threading.Thread(target=work, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_what_is_published_comes_back_in_order_to_the_publisher_too():
    with connected() as (server, _, broker, listener):
        other, hears = new_broker(server.path), Listener()
        other.start(hears, 5)
        broker.subscribe([b"g:a"])
        other.subscribe([b"g:a", b"g:b"])
        assert listener.states == hears.states == ["up"]

        def work(number):
            for turn in range(20):
                assert publish(broker, b"%d %d" % (number, turn)) == 2

        for thread in in_threads(50, work):
            thread.join()
        until(lambda: len(hears.messages) == len(listener.messages) == 1000)
        assert hears.messages == listener.messages
        for number in range(50):
            mine = [body for _, body in hears.messages if body.startswith(b"%d " % number)]
            assert mine == [b"%d %d" % (number, turn) for turn in range(20)]
        assert publish(broker, channel=b"g:b") == 1
        assert publish(broker, channel=b"g:c") == 0
        broker.unsubscribe([b"g:a"])
        assert publish(broker) == 1
        other.close()


def test_a_body_of_a_megabyte_passes_and_more_bytes_than_may_wait_are_refused():
    with connected() as (server, _, broker, listener):
        broker.subscribe([b"g:a"])
        body = os.urandom(1 << 20)
        assert publish(broker, body) == 1
        until(lambda: listener.messages == [(b"g:a", body)])
        os.kill(server.popen.pid, 19)  # SIGSTOP
        refused = []

        def work(number):
            try:
                publish(broker, body)
            except BrokerDown as error:
                refused.append(error)

        threads = in_threads(16, work)
        until(lambda: refused)
        assert "bytes wait to be written" in str(refused[0])
        assert not refused[0].uncertain
        os.kill(server.popen.pid, 18)  # SIGCONT
        for thread in threads:
            thread.join()
        assert broker.state == "up"


def test_what_is_refused_is_an_error_and_the_link_goes_on():
    with connected() as (_, _, broker, _), raises(BrokerError, "no operation"):
        broker.call("nonsense", b"g:a")
    with connected() as (_, _, broker, listener):
        broker.post("nonsense", b"g:a")
        broker.subscribe([b"g:a"])
        assert is_whole(broker, listener)


def test_a_broker_that_is_not_there_is_down_at_once_and_found_when_it_comes():
    server = BrokerProcess()
    proxy = FaultProxy(f"{server.path}-proxy", server.path)
    proxy.refuses = True
    broker, listener = new_broker(proxy.path), Listener()
    with raises(BrokerDown, "the broker process: "):
        broker.start(listener, 0.3)
    seconds, error = seconds_of(lambda: publish(broker))
    assert seconds < 0.1
    assert not error.uncertain
    with raises(BrokerDown):
        broker.subscribe([b"g:a"])
    broker.post("renew", b"", b"p", b"1")  # dropped
    proxy.refuses = False
    until(lambda: broker.state == "up", 2)
    assert is_whole(broker, listener)
    assert listener.states == ["up"]
    assert listener.fences == 0
    broker.close()
    proxy.close()
    server.close()
    with raises(BrokerDown, "No such file or directory"):
        new_broker(server.path).start(listener, 0.3)


def test_a_killed_broker_process_is_found_again_with_all_channels():
    with connected() as (server, _, broker, listener):
        channels = [b"g:%d" % number for number in range(2000)]
        broker.subscribe(channels)
        name, killed = broker.process, time.time()
        server.kill()
        until(lambda: listener.states == ["up", "down"], 1)
        assert seconds_of(lambda: publish(broker))[0] < 0.1
        with raises(BrokerDown):
            broker.subscribe([b"g:new"])
        broker.unsubscribe([b"g:0"])
        server.start()
        until(lambda: listener.states == ["up", "down", "up"])
        ((interrupted, since, end),) = listener.interruptions
        assert interrupted == channels[1:]
        assert killed - 5 < since <= end <= time.time()
        assert listener.fences == 1
        assert broker.process != name
        assert publish(broker, channel=b"g:0") == 0
        for channel in (*channels[1:], b"g:new"):
            assert publish(broker, channel, channel) == 1
        until(lambda: len(listener.messages) == 2000)


def test_a_call_under_way_when_the_link_is_reset_may_have_happened():
    with connected(is_through_proxy=True) as (_, proxy, broker, listener):
        broker.subscribe([b"g:a"])
        proxy.passes_down = False
        errors = []

        def work(number):
            errors.append(seconds_of(lambda: publish(broker))[1])

        (thread,) = in_threads(1, work)
        time.sleep(0.3)
        proxy.reset()
        thread.join(2)
        assert [error.uncertain for error in errors] == [True]
        proxy.heal()
        until(lambda: is_whole(broker, listener))
        assert len(listener.interruptions) == 1


def test_a_black_hole_fails_calls_within_two_seconds_and_is_whole_within_five():
    with connected(is_through_proxy=True) as (_, proxy, broker, listener):
        broker.subscribe([b"g:a"])
        proxy.partition()
        durations = []

        def work(number):
            time.sleep(number / 10)
            durations.append(seconds_of(lambda: publish(broker))[0])

        for thread in in_threads(30, work):
            thread.join()
        assert max(durations) <= 2.1
        assert len(durations) == 30
        assert broker.state == "down"
        assert durations[-1] < 0.1
        proxy.heal()
        started = time.monotonic()
        until(lambda: is_whole(broker, listener))
        assert time.monotonic() - started < 5
        assert len(listener.interruptions) == 1


def test_a_half_open_link_is_noticed_though_nothing_is_called():
    link.SILENCE_SECONDS = 0.5
    try:
        with connected(is_through_proxy=True) as (_, proxy, broker, listener):
            broker.subscribe([b"g:a"])
            time.sleep(1.5)  # a PING each half a second keeps it
            assert listener.states == ["up"]
            proxy.passes_down = False
            until(lambda: broker.state == "down", 3)
            proxy.heal()
            until(lambda: is_whole(broker, listener))
            assert listener.interruptions[0][0] == [b"g:a"]
    finally:
        link.SILENCE_SECONDS = 10.0


def test_a_slow_broker_process_is_no_broken_one():
    with connected(is_through_proxy=True) as (_, proxy, broker, listener):
        broker.subscribe([b"g:a"])
        for _ in range(3):
            proxy.partition()
            threading.Thread(target=lambda: (time.sleep(0.5), proxy.heal())).start()
            assert is_whole(broker, listener)
        assert listener.states == ["up"]


def test_a_slow_listener_holds_its_messages_back_and_breaks_nothing():
    with connected() as (_, _, broker, listener):

        def slowly(channel, payload):
            time.sleep(2.5)
            Listener.on_message(listener, channel, payload)

        listener.on_message = slowly
        broker.subscribe([b"g:a"])
        # The message comes before the reply to the call that has published it.
        seconds, error = seconds_of(lambda: publish(broker))
        assert seconds <= 2.1
        assert error.uncertain
        until(lambda: listener.messages)
        assert listener.states == ["up"]
        assert publish(broker, channel=b"g:b") == 0


def test_a_listener_that_fails_is_told_of_in_the_log_and_hears_the_next_message():
    with connected() as (_, _, broker, listener):
        broker.subscribe([b"g:a"])
        hear = listener.on_message
        listener.on_message = lambda channel, payload: 1 / 0
        publish(broker)
        listener.on_message = hear
        assert is_whole(broker, listener)


def test_a_copy_that_lets_go_leaves_the_link_to_its_parent():
    with connected() as (_, _, broker, listener):
        broker.subscribe([b"g:a"])
        copy = os.fork()
        if copy == 0:
            broker.let_go()
            os._exit(0 if seconds_of(lambda: publish(broker))[0] < 0.1 else 1)
        assert os.waitpid(copy, 0)[1] == 0
        assert is_whole(broker, listener)
        assert listener.states == ["up"]


def test_a_closed_broker_is_down():
    with connected() as (_, _, broker, _):
        broker.close()
        until(lambda: broker.state == "down", 1)
        assert seconds_of(lambda: publish(broker))[0] < 0.1


logging.disable()
scenario_process.run(globals())
