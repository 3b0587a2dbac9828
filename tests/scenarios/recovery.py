"""What members and processes missed of groups that keep their messages."""

from __future__ import annotations

import json
import resource
import time
from functools import partial

import gevent
from broker_faults import BrokerProcess
from messaging import Process, processes, run_in, settle, until
from scenario_process import raises, run

from gworker import messages
from gworker.broker.interface import MAX_BODY
from gworker.broker.local import LocalBroker
from gworker.errors import BrokerDown, BrokerError
from gworker.messages import Joined, holds
from gworker.messages.recovery import joins, single_flight

KEPT = {"pattern": "kept*", "mode": "recoverable", "history": 5}
MANY = {"pattern": "many*", "mode": "recoverable", "history": 1000}
LATEST = {"pattern": "price*", "mode": "latest", "history": 3}


class Calls:
    """The calls that a process makes to its broker. slow: what is called before a history is read,
    and after."""

    def __init__(self, process, before=None, after=None):
        self.all = []
        self.running = self.most = 0
        self.before, self.after = before, after
        self.call = process.broker.call
        process.broker.call = self

    def __call__(self, operation, channel, *arguments):
        self.all.append((operation, channel))
        is_history = operation == "history"
        self.running += is_history
        self.most = max(self.most, self.running)
        try:
            if is_history and self.before:
                self.before()
            answer = self.call(operation, channel, *arguments)
            if is_history and self.after:
                self.after()
        finally:
            self.running -= is_history
        return answer

    def count(self, operation):
        return sum(each == operation for each, _ in self.all)


def lose(process, count):
    """The next frames do not reach a process. They are returned as they are lost."""
    lost = []
    take = process.broker.take

    def loses(channel, payload):
        lost.append((channel, payload))
        if len(lost) == count:
            process.broker.take = take

    process.broker.take = loses
    return lost


def texts(*numbers):
    return [str(each) for each in numbers]


def publish(group, *numbers):
    return [messages.publish(group, str(each)).position for each in numbers]


# ---- members that come back


def test_what_was_missed_comes_first():
    a, b = processes(2, KEPT)
    at = messages.position("kept")
    made = publish("kept", 1, 2, 3)
    for process in (a, b):
        for index, since in enumerate([at, *made]):
            one = process.connect()
            assert one.connection.join("kept", since=since) == Joined(True, 3 - index, made[-1])
            assert one.lines == texts(*range(index + 1, 4))
    last = publish("kept", 4)[0]
    assert one.lines == ["4"]
    assert one.connection.groups == ["kept"]
    two = b.connect()
    assert two.connection.join("kept") == Joined(False, 0, last)
    assert two.lines == []
    assert not b.messages.channels.get(b"g:kept").holds
    assert a.exceptions == b.exceptions == 0


def test_what_cannot_be_recovered():
    a, b = processes(2, KEPT)
    at = messages.position("kept")
    made = publish("kept", *range(7))
    other = messages.position("kept other")
    ahead = made[-1][:-1] + "8"
    foreign = ["", "x", "é", "-" * 64, "aaaaaaaa-1", other, ahead, made[-1] + "z" * 12, at, made[0]]
    for since in [*foreign, 5, b"x", {}]:
        one = b.connect()
        assert one.connection.join("kept", since=since) == Joined(False, 0, made[-1]), since
        publish("kept other", 1)
        assert one.lines == [], since
    one = b.connect()
    assert one.connection.join("kept", since=made[1]) == Joined(True, 5, made[-1])
    assert one.lines == texts(2, 3, 4, 5, 6)
    assert one.connection.join("kept new", since=at).recovered is False
    assert one.connection.join("kept new 2", since=at).position.endswith("-0")
    assert one.connection.join("fleeting", since=at) == Joined()
    publish("kept", 8)
    publish("kept new", 9)
    publish("kept new 2", 10)
    publish("fleeting", 11)
    assert one.lines == texts(8, 9, 10, 11)
    assert a.exceptions == b.exceptions == 0


def test_a_history_whose_time_is_over():
    processes_ = processes(2, {**KEPT, "ttl": 0.02})
    b = processes_[1]
    made = publish("kept", 1, 2)
    gevent.sleep(0.05)
    one, two = b.connect(), b.connect()
    assert one.connection.join("kept", since=made[0]) == Joined(False, 0, made[1])
    assert two.connection.join("kept", since=made[1]) == Joined(True, 0, made[1])
    assert one.lines == two.lines == []


def test_what_is_published_meanwhile_comes_once_and_in_order():
    for when in ("before", "after"):
        a, b = processes(2, MANY)
        at = messages.position("many")
        publish("many", *range(5))
        present = b.connect()
        assert present.connection.join("many", since=at).missed == 5
        numbers = iter(range(5, 200))

        def more():
            publish("many", next(numbers), next(numbers))
            gevent.sleep(0.005)
            publish("many", next(numbers))

        Calls(b, **{when: more})
        b.messages.recovery.reads.clear()
        one = b.connect()
        joined = one.connection.join("many", since=at)
        rest = publish("many", next(numbers), next(numbers))
        everything = texts(*range(next(numbers)))
        assert joined.recovered
        assert one.lines == everything
        assert present.lines == everything
        again = a.connect()
        assert again.connection.join("many", since=joined.position).recovered
        assert messages.position("many") == rest[-1]
        assert a.exceptions == b.exceptions == 0


def test_what_was_missed_has_positions():
    def wrap(message, position):
        if message == "wrong":
            raise ValueError(message)
        return {"at": position, "message": message}

    a, b = processes(2, {**KEPT, "wrap": wrap})
    at = messages.position("kept")
    made = [messages.publish("kept", each).position for each in ("a", "wrong", ["b"])]
    one = b.connect()
    joined = one.connection.join("kept", since=at)
    made += publish("kept", "c")
    assert [json.loads(each) for each in one.lines] == [
        {"at": made[0], "message": "a"},
        {"at": made[2], "message": ["b"]},
        {"at": made[3], "message": "c"},
    ]
    assert joined.recovered
    assert joined.position == made[2]
    assert a.exceptions == 0


def test_those_left_out_get_nothing_later_either():
    _, b = processes(2, KEPT)
    at = messages.position("kept")
    messages.publish("kept", "secret", exclude_users="anna")
    messages.publish("kept", "open")
    one, two = b.connect(), b.connect()
    one.connection.bind("anna")
    for each in (one, two):
        assert each.connection.join("kept", since=at).recovered
    assert one.lines == ["open"]
    assert two.lines == ["secret", "open"]


def test_many_reconnects_ask_once():
    a, b = processes(2, MANY)
    at = messages.position("many")
    publish("many", *range(20))
    calls = Calls(b, before=lambda: gevent.sleep(0.01))
    clients = [b.connect() for _ in range(300)]
    jobs = [gevent.spawn(each.connection.join, "many", since=at) for each in clients]
    gevent.joinall(jobs)
    assert {each.value for each in jobs} == {Joined(True, 20, messages.position("many"))}
    assert all(each.lines == texts(*range(20)) for each in clients[:20])
    assert calls.count("history") == 1
    publish("many", 20)
    late = b.connect()
    assert late.connection.join("many", since=at).missed == 21
    assert late.lines == texts(*range(21))
    until(lambda: not b.messages.recovery.reads)
    assert a.exceptions == b.exceptions == 0


def test_few_histories_are_read_at_a_time():
    _, b = processes(2, KEPT)
    groups = [f"kept {number}" for number in range(60)]
    at = {group: messages.position(group) for group in groups}
    for group in groups:
        publish(group, group)
    calls = Calls(b, before=lambda: gevent.sleep(0.002))
    clients = {group: b.connect() for group in groups}
    gevent.joinall(
        [gevent.spawn(clients[g].connection.join, g, since=at[g]) for g in groups],
        raise_error=True,
    )
    assert 8 < calls.most <= single_flight.MOST_READS
    assert all(clients[group].lines == [group] for group in groups)


def test_leaving_and_ending_while_a_history_is_read():
    a, b = processes(2, KEPT)
    at = messages.position("kept")
    publish("kept", 1)
    Calls(b, before=lambda: gevent.sleep(0.02))
    leaves, ends, again = b.connect(), b.connect(), b.connect()
    jobs = [gevent.spawn(each.connection.join, "kept", since=at) for each in (leaves, ends, again)]
    gevent.sleep(0.005)
    leaves.connection.leave("kept")
    ends.connection.destroy()
    again.connection.leave("kept")
    again.connection.join("kept")
    publish("kept", 2)
    gevent.joinall(jobs)
    publish("kept", 3)
    assert leaves.lines == ends.lines == []
    assert again.lines == ["2", "3"]
    assert [each.value for each in jobs] == [Joined()] * 3
    assert list(b.messages.channels.get(b"g:kept").members) == [again.connection]
    assert not b.messages.channels.get(b"g:kept").holds
    assert a.exceptions == b.exceptions == 0


def test_a_member_that_asks_for_what_it_missed():
    _, b = processes(2, KEPT)
    made = publish("kept", 1, 2)
    one = b.connect()
    one.connection.join("kept")
    made += publish("kept", 3)
    assert one.lines == ["3"]
    assert one.connection.join("kept", since=made[0]) == Joined(True, 2, made[2])
    publish("kept", 4)
    assert one.lines == ["2", "3", "4"]


def test_joining_with_a_position_needs_the_broker():
    _a, b = processes(2, KEPT, {**LATEST, "presence": True})
    made = publish("kept", 1)
    member = b.connect()
    member.connection.join("kept", since=made[0])
    b.broker.break_off()
    settle()
    one = b.connect()
    for group in ("kept", "price", "fleeting"):
        for since in (made[0], "x"):
            with raises(BrokerDown):
                one.connection.join(group, since=since)
    with raises(BrokerDown):
        member.connection.join("kept", since=made[0])
    assert one.connection.groups == []
    assert member.connection.groups == ["kept"]
    one.connection.join("kept")
    b.broker.restore()
    settle()
    publish("kept", 2)
    assert one.lines == member.lines == ["2"]
    assert not b.messages.channels.get(b"g:kept").holds

    def fails():
        raise BrokerDown("no answer")

    Calls(b, before=fails)
    with raises(BrokerDown, "no answer"):
        b.connect().connection.join("kept", since=made[0])
    two = b.connect()
    with raises(BrokerDown, "no answer"):
        two.connection.join("kept 2", since=messages.position("kept 2"))
    assert two.connection.groups == []
    assert b.exceptions == 0


# ---- slow members


def test_a_join_that_fails_changes_nothing():
    _, b = processes(2, {**KEPT, "presence": True})
    at = messages.position("kept")
    member, other = b.connect(), b.connect()
    member.connection.join("kept", presence=1)

    def fails():
        publish("kept", 1)
        raise BrokerDown("no answer")

    def hangs():
        publish("kept", 2)
        gevent.sleep(5)

    calls = Calls(b, before=fails)
    with raises(BrokerDown, "no answer"):
        member.connection.join("kept", since=at, presence=2)
    assert member.lines == ["1"], "it was a member all the time"
    calls.before = hangs
    for each in (member, other):
        b.messages.recovery.reads.clear()
        with gevent.Timeout(0.05, False):
            each.connection.join("kept", since=at, presence=2)
    calls.before = None
    b.messages.recovery.reads.clear()
    assert member.lines == ["2", "2"]
    assert other.connection.groups == []
    assert not b.messages.channels.get(b"g:kept").holds
    member.connection.join("kept", presence=2)
    assert [each.presence for each in messages.members("kept")] == [2]

    def refuses(channels):
        raise BrokerDown("not subscribed")

    b.broker.subscribe = refuses
    with raises(BrokerDown, "not subscribed"):
        other.connection.join("fleeting", since=at)
    assert other.connection.groups == []
    assert b.exceptions == 0


def test_slow_members_come_back():
    _, b = processes(2, {**MANY, "history": 100})
    at = messages.position("many")
    one = b.connect("text", max_send_buffer_size=1000)
    one.connection.join("many")
    for _ in range(100):
        messages.publish("many", "x" * 100_000)
    settle()
    assert one.connection.status == "closing"
    two = b.connect("text", max_send_buffer_size=1000)
    job = gevent.spawn(two.connection.join, "many", since=at)
    got = 0
    while got < 100 * 100_001:
        got += len(two.read())
        gevent.sleep(0)
    assert job.get() == Joined(True, 100, messages.position("many")), "it reads what it missed"
    before, joins.DRAIN_SECONDS = joins.DRAIN_SECONDS, 0.02
    three = b.connect("text", max_send_buffer_size=1000)
    assert three.connection.join("many", since=at) == Joined()
    assert three.connection.status == "closing"
    joins.DRAIN_SECONDS = before
    assert b.exceptions == 0


def test_a_history_of_many_bytes():
    """60 messages as large as they may be, of which the process never has many at once. All of
    them come within the time of one call."""
    broker = BrokerProcess()
    process = Process(partial(LocalBroker, broker.path), {**MANY, "history": 60})
    process.service.start_messaging()
    run_in(process)
    at = messages.position("many")
    size = MAX_BODY - 3
    for number in range(60):
        messages.publish("many", f"{number:03}".ljust(size, "x"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    one = process.connect("text")
    job = gevent.spawn(one.connection.join, "many", since=at)
    left, starts = 0, []
    until = time.monotonic() + 20
    while not (job.ready() and len(starts) == 60):
        assert time.monotonic() < until, (job, len(starts))
        data = one.read()
        while data:
            if not left:
                starts.append(data[:3])
                left = size + 1
            took = min(left, len(data))
            left -= took
            data = data[took:]
        gevent.sleep(0)
    assert job.get() == Joined(True, 60, messages.position("many"))
    assert starts == [b"%03d" % number for number in range(60)]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 45 << 10, f"{grown} KiB"
    process.messages.end()
    broker.close()


def test_so_much_is_held_back():
    _, b = processes(2, MANY)
    at = messages.position("many")
    before, holds.MOST_HELD = holds.MOST_HELD, 10

    def more():
        publish("many", *range(20))
        settle()

    Calls(b, after=more)
    one = b.connect()
    assert one.connection.join("many", since=at) == Joined()
    assert one.connection.status != "established"
    assert b.messages.delivery.dropped
    holds.MOST_HELD = before


# ---- latest values


def test_values_come_at_the_join():
    a, b = processes(2, LATEST)
    for number, key in enumerate("abcda"):
        messages.publish("price", f"{key}{number}", key=key)
    one = b.connect()
    assert one.connection.join("price") == Joined(False, 0, messages.position("price"))
    assert one.lines == ["c2", "d3", "a4"]
    one.connection.join("price")
    messages.publish("price", "e5", key="e")
    at = messages.publish("price", "a6", key="a").position
    messages.publish("price", "e7", key="e")
    assert one.lines == ["e5", "a6", "e7"]
    two = b.connect()
    assert two.connection.join("price", since=at) == Joined(True, 1, messages.position("price"))
    assert two.lines == ["e7"]
    three = b.connect()
    assert three.connection.join("price", since="x").recovered is False
    assert three.lines == ["d3", "a6", "e7"]
    assert a.exceptions == b.exceptions == 0


def test_no_old_value_comes_after_a_new_one():
    for when in ("before", "after"):
        a, b = processes(2, LATEST)
        messages.publish("price", "0", key="a")
        numbers = iter(range(1, 100))

        def more():
            for _ in range(3):
                messages.publish("price", str(next(numbers)), key="a")
                gevent.sleep(0.003)

        Calls(b, **{when: more})
        clients = [b.connect() for _ in range(3)]
        gevent.joinall([gevent.spawn(each.connection.join, "price") for each in clients])
        more()
        for each in clients:
            got = list(map(int, each.lines))
            assert got == sorted(set(got)), got
            assert got[-1] == next(numbers) - 1
            numbers = iter(range(got[-1] + 1, 100))
        assert a.exceptions == b.exceptions == 0


def test_values_of_a_join_while_the_broker_is_down():
    _, b = processes(2, LATEST)
    present = b.connect()
    present.connection.join("price")
    b.broker.break_off()
    settle()
    one = b.connect()
    assert one.connection.join("price") == Joined()
    two = b.connect()
    two.connection.join("price 2")
    for number in range(2):
        messages.publish("price", f"a{number}", key="a")
        messages.publish("price 2", f"a{number}", key="a")
    assert one.lines == []
    b.broker.restore()
    settle()
    messages.publish("price", "b", key="b")
    got = one.lines, present.lines
    assert got == (["a1", "b"], ["a1", "b"]), got
    assert two.lines == ["a1"]
    assert b.exceptions == 0


# ---- what a process missed


def gaps_of(count, *declared):
    told = []
    made = processes(count, *declared, on_gap=lambda *given: told.append(given))
    return *made, told


def test_a_process_gets_what_it_missed():
    a, b, told = gaps_of(2, KEPT, LATEST)
    one, got = b.connect(), []
    one.connection.join("kept")
    one.connection.join("price")
    b.messages.subscribe("kept", got.append)
    publish("kept", 1)
    lost = lose(b, 3)
    publish("kept", 2, 3, 4)
    assert len(lost) == 3
    publish("kept", 5, 6)
    assert one.lines == texts(*range(1, 7))
    assert got == texts(*range(1, 7))
    messages.publish("price", "a1", key="a")
    lose(b, 3)
    for each in ("a2", "b1", "a3"):
        messages.publish("price", each, key=each[0])
    messages.publish("price", "c1", key="c")
    assert one.lines == ["a1", "b1", "a3", "c1"]
    assert told == []
    assert b.messages.gaps.count == a.exceptions == b.exceptions == 0


def test_a_first_message_that_was_missed():
    _, b, told = gaps_of(2, KEPT)
    one = b.connect()
    one.connection.join("kept")
    lose(b, 1)
    publish("kept", 1)
    publish("kept", 2)
    assert one.lines == ["1", "2"]
    assert told == []


def test_a_gap_is_told_once():
    a, b, told = gaps_of(2, KEPT)
    one = b.connect()
    one.connection.join("kept")
    publish("kept", 0)
    settle()
    begun = time.time()
    lose(b, 6)
    publish("kept", *range(1, 7))
    publish("kept", *range(7, 12))
    assert one.lines == texts(0, *range(7, 12))
    ((groups, since, till),) = told
    assert groups == ["kept"]
    assert since <= begun + 0.001
    assert begun <= till <= time.time()
    assert b.messages.gaps.count == 1
    publish("kept", 12)
    assert one.lines == ["12"]
    assert len(told) == 1
    assert a.exceptions == b.exceptions == 0


def test_what_comes_twice_is_given_once():
    _, b, told = gaps_of(2, KEPT)
    one = b.connect()
    one.connection.join("kept")
    came = []
    take = b.broker.take

    def keeps(channel, payload):
        came.append((channel, payload))
        take(channel, payload)

    b.broker.take = keeps
    publish("kept", 1, 2, 3)
    for each in came[-1], came[-1], came[0], came[1]:
        take(*each)
    publish("kept", 4)
    for each in list(came):
        take(*each)
    assert one.lines == texts(1, 2, 3, 4)
    assert told == []


def test_a_failover_that_lost_the_last_messages():
    a, b, told = gaps_of(2, KEPT)
    one, two = a.connect(), b.connect()
    for each in (one, two):
        each.connection.join("kept")
    publish("kept", 1, 2)
    replica = b.server.save()
    at = publish("kept", 3, 4)[1]
    assert one.lines == texts(1, 2, 3, 4)
    b.server.fail_over(replica)
    publish("kept", "new 3")
    settle()
    publish("kept", "new 4", "new 5")
    assert one.lines == ["new 3", "new 4", "new 5"]
    assert two.lines == [*texts(1, 2, 3, 4), "new 3", "new 4", "new 5"]
    assert [each[0] for each in told] == [["kept"], ["kept"]], told
    back = b.connect()
    assert back.connection.join("kept", since=at).recovered is False
    assert back.lines == []
    assert a.exceptions == b.exceptions == 0


def test_a_failover_is_found_when_it_is_over():
    """As many messages came after it as were lost, while the process was away."""
    _, b, told = gaps_of(2, KEPT)
    one = b.connect()
    one.connection.join("kept")
    replica = b.server.save()
    publish("kept", 1, 2)
    assert one.lines == ["1", "2"]
    b.broker.break_off()
    b.server.fail_over(replica)
    publish("kept", "new 1", "new 2", "new 3")
    b.broker.restore()
    settle()
    publish("kept", "new 4")
    assert one.lines == ["new 4"]
    assert [each[0] for each in told] == [["kept"]]


def test_the_broker_was_away():
    a, b, told = gaps_of(2, KEPT, LATEST)
    one = b.connect()
    for group in ("kept", "kept long", "price", "fleeting", "fleeting 2"):
        one.connection.join(group)
    publish("kept", 1)
    assert one.lines == ["1"]
    begun = time.time()
    b.broker.break_off()
    publish("kept", 2, 3)
    publish("kept long", *range(6))
    messages.publish("price", "a1", key="a")
    publish("fleeting", 4)
    settle()
    b.broker.restore()
    publish("kept", 5)
    publish("kept long", 6)
    publish("fleeting", 7)
    got = one.lines
    for expected in (["2", "3", "5"], ["a1"], ["6"], ["7"]):
        assert [each for each in got if each in expected] == expected, got
    assert len(got) == 6
    ((groups, since, till),) = told
    assert sorted(groups) == ["fleeting", "fleeting 2", "kept long"]
    assert begun <= since <= till <= time.time()
    assert b.messages.gaps.count == 3
    assert a.exceptions == b.exceptions == 0


def test_the_broker_lost_all():
    a, b, told = gaps_of(2, KEPT)
    one = b.connect()
    one.connection.join("kept")
    at = publish("kept", 1)[0]
    assert one.lines == ["1"]
    b.broker.break_off()
    b.server.fail_over()
    settle()
    b.broker.restore()
    publish("kept", 2)
    assert one.lines == ["2"]
    assert [each[0] for each in told] == [["kept"]]
    assert one.connection.join("kept", since=at).recovered is False
    publish("kept", 3)
    assert one.lines == ["3"]
    b.broker.break_off()
    settle()
    b.broker.restore()
    settle()
    assert len(told) == 1
    assert a.exceptions == b.exceptions == 0


def test_the_broker_goes_again_while_a_history_is_read():
    _, b, told = gaps_of(2, KEPT)
    one = b.connect()
    one.connection.join("kept")
    one.connection.join("fleeting")
    publish("kept", 1)
    settle()
    begun = time.time()
    times = iter(range(2))

    def breaks():
        if next(times, None) is not None:
            b.broker.break_off()
            raise BrokerDown("it has gone again", True)

    Calls(b, before=breaks)
    for number in (2, 3, 4):
        b.broker.break_off()
        publish("kept", number)
        settle()
        b.broker.restore()
        if number < 4:
            until(lambda: b.broker.state == "down")
    publish("kept", 5)
    until(lambda: b.messages.channels.get(b"g:kept").held is None)
    assert one.lines == texts(1, 2, 3, 4, 5)
    assert {tuple(groups) for groups, *_ in told} == {("fleeting",)}
    assert all(since >= begun for _, since, _ in told)
    assert b.exceptions == 0


def test_quiet_groups_are_looked_at():
    a, b, told = gaps_of(2, KEPT)
    one = b.connect()
    groups = [f"kept {number}" for number in range(20)]
    for group in groups:
        one.connection.join(group)
        publish(group, 0)
    assert len(one.lines) == 20
    lose(b, 8)
    publish("kept 3", 1, 2)
    publish("kept 4", *range(1, 7))
    asked = []
    submit = b.broker.submit

    def counts(*asks):
        asked.append(asks)
        return submit(*asks)

    b.broker.submit = counts
    b.messages.recovery.position_check.check()
    assert asked == [], "all of them have been heard of a moment ago"
    b.messages.recovery.position_check.check(seconds=0)
    assert one.lines == ["1", "2"]
    assert sorted(asked) == sorted(("position", b"g:" + group.encode()) for group in groups)
    assert [each[0] for each in told] == [["kept 4"]]
    b.messages.recovery.position_check.check(seconds=0)
    settle()
    publish("kept 4", 7)
    assert one.lines == ["7"]
    assert len(told) == 1
    assert a.exceptions == b.exceptions == 0


def test_groups_that_were_joined_while_the_broker_was_down_are_looked_at():
    _, b = processes(2, KEPT)
    b.broker.break_off()
    settle()
    one = b.connect()
    one.connection.join("kept")
    b.broker.restore()
    until(lambda: b.messages.channels.get(b"g:kept").is_subscribed)
    publish("kept", 1)
    assert one.lines == ["1"]
    lose(b, 1)
    publish("kept", 2)
    b.messages.recovery.position_check.check(seconds=0)
    assert one.lines == ["2"]
    assert b.exceptions == 0


# ---- what is asked of a history


def test_what_a_history_gives():
    processes(2, KEPT)
    made = publish("kept", *range(7))
    everything = list(zip(made[2:], texts(*range(2, 7)), strict=True))
    assert messages.history("kept") == everything
    assert messages.history("kept", limit=2) == everything[:2]
    assert messages.history("kept", limit=None, reverse=True) == everything[::-1]
    assert messages.history("kept", since=made[3]) == everything[2:]
    assert messages.history("kept", since=made[3], limit=1) == everything[2:3]
    assert messages.history("kept", since=made[3], reverse=True) == everything[:1]
    assert messages.history("kept", since=made[0]) == everything
    assert messages.history("kept", since=made[6]) == []
    for foreign in ("", "x", 5, "aaaaaaaa-1", made[-1][:-1] + "z"):
        assert messages.history("kept", since=foreign) == []
        assert messages.history("kept", since=foreign, reverse=True) == []
    for wrong in (0, -1, True, 1.5, "1"):
        with raises(ValueError, "limit"):
            messages.history("kept", limit=wrong)
    assert messages.position("kept") == made[-1]


def test_what_the_broker_refuses_keeps_no_member_waiting():
    (a,) = processes(1, LATEST)
    one, two = a.connect(), a.connect()
    a.broker.break_off()
    settle()
    assert one.connection.join("price") == Joined()
    taken = a.broker.call

    def refuses(operation, channel, *arguments):
        if operation in ("history", "position"):
            raise BrokerError("it is full")
        return taken(operation, channel, *arguments)

    a.broker.call = refuses
    a.broker.restore()
    until(lambda: not a.messages.channels.get(b"g:price").holds)
    with raises(BrokerError, "full"):
        two.connection.join("price")
    assert two.connection.groups == []
    messages.publish("price", "1")
    assert (one.lines, two.lines) == (["1"], [])


if __name__ == "__main__":
    run(globals())
