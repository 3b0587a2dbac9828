"""Groups, users and what is published, over several processes of one broker."""

from __future__ import annotations

import json
import time

import gevent
from messaging import MemoryServer, Process, processes, run_in, settle, until
from scenario_process import raises, run

from gworker import messages
from gworker.errors import BrokerDown, ConfigError
from gworker.protocols import PackageProtocol


def test_a_group_is_one_over_all_processes():
    a, b = processes(2)
    one, two, other = a.connect(), b.connect(), b.connect()
    for each in (one, two):
        each.connection.join("room")
    assert messages.publish("room", "hello").receivers == 2
    assert one.lines == two.lines == ["hello"]
    assert other.lines == []
    assert one.connection.groups == ["room"]
    assert other.connection.groups == []


def test_all_see_one_order():
    ours = processes(3)
    clients = [each.connect() for each in ours for _ in range(3)]
    for each in clients:
        each.connection.join("room")

    def publish(process, name):
        for number in range(50):
            process.messages.calls.publish("room", f"{name} {number}")
            gevent.sleep(0)

    gevent.joinall([gevent.spawn(publish, each, n) for n, each in enumerate(ours)])
    seen = [each.lines for each in clients]
    assert len(seen[0]) == 150
    assert all(each == seen[0] for each in seen)


def test_leaving_and_ending():
    a, b = processes(2)
    one, two = a.connect(), a.connect()
    one.connection.join("room")
    two.connection.join("room")
    one.connection.leave("room")
    one.connection.leave("room")
    one.connection.leave("no such")
    messages.publish("room", "x")
    assert (one.lines, two.lines) == ([], ["x"])
    two.connection.destroy()
    assert two.connection.membership is None
    channel = a.messages.channels.get(b"g:room")
    assert not channel.members
    until(lambda: a.messages.channels.get(b"g:room") is None)
    assert messages.publish("room", "x").receivers == 0
    assert two.connection.join("room") == messages.Joined(), "what has ended joins nothing"
    assert two.connection.groups == []
    assert b.exceptions == a.exceptions == 0


def test_a_channel_that_is_joined_again_stays():
    (a,) = processes(1)
    one = a.connect()
    one.connection.join("room")
    one.connection.leave("room")
    gevent.sleep(0.7)
    one.connection.join("room")
    gevent.sleep(1.2)
    assert messages.publish("room", "x").receivers == 1
    assert one.lines == ["x"]


def test_what_can_be_published():
    (a,) = processes(1)
    lines, frames = a.connect("text"), a.connect("frame")
    got = []
    messages.subscribe("room", got.append)
    for each in (lines, frames):
        each.connection.join("room")
    for each in ("é", b"\xff", {"b": 1, "a": [None]}, [1, "ü"]):
        messages.publish("room", each)
    settle()
    assert lines.read() == "é\n".encode() + b"\xff\n" + '{"a":[null],"b":1}\n[1,"ü"]\n'.encode()
    assert got == ["é", b"\xff", {"b": 1, "a": [None]}, [1, "ü"]]
    for wrong in (None, 1, ("x",), {1, 2}):
        with raises(TypeError, "a message is str, bytes, dict or list"):
            messages.publish("room", wrong)
    with raises(TypeError, "has no JSON"):
        messages.publish("room", [object()])
    with raises(ValueError, "has no JSON"):
        messages.publish("room", [float("nan")])
    with raises(ValueError, "at most 1048576 bytes"):
        messages.publish("room", "x" * (1 << 20))


def test_names():
    (a,) = processes(1)
    one = a.connect()
    for wrong in ("", "é" * 101):
        with raises(ValueError, "1 to 200 bytes"):
            one.connection.join(wrong)
        with raises(ValueError, "1 to 200 bytes"):
            messages.publish(wrong, "x")
        with raises(ValueError, "1 to 200 bytes"):
            one.connection.bind(wrong)
    with raises(TypeError, "a group is a str, not int"):
        one.connection.join(5)
    with raises(TypeError, "a user is a str, not bool"):
        one.connection.bind(True)
    one.connection.join("é" * 100)
    one.connection.bind(5)
    assert one.connection.uid == "5"
    assert messages.send_to_user("5", "x") == 1
    assert one.lines == ["x"]


def test_who_is_left_out():
    a, b = processes(2)
    clients = one, two, three = a.connect(), b.connect(), b.connect()
    for each in clients:
        each.connection.join("room")
    three.connection.bind("c")
    messages.publish("room", "1", exclude=one.connection)
    messages.publish("room", "2", exclude=two.connection.client_id)
    messages.publish("room", "3", exclude=[one.connection, two.connection.client_id])
    messages.publish("room", "4", exclude_users="c")
    messages.publish("room", "5", exclude_users=["c", 7], exclude="none such")
    messages.broadcast("6", exclude=one.connection)
    assert one.lines == ["2", "4", "5"]
    assert two.lines == ["1", "4", "5", "6"]
    assert three.lines == ["1", "2", "3", "6"]


def test_a_client_id_that_is_none_leaves_nobody_out():
    a, b = processes(2)
    one, two = a.connect(), b.connect()
    for each in (one, two):
        each.connection.join("room")
    inbox = one.connection.client_id.partition(".")[0]
    for wrong in (f"{inbox}.{'z' * 5000}", f"{inbox}.", f"{inbox}.1_0", f"{inbox}.\n", "é.1", "."):
        messages.publish("room", "x", exclude=wrong)
        assert one.lines == two.lines == ["x"], wrong
        assert messages.send(wrong, "x") is False
        messages.close(connection=wrong)
    assert one.is_open


def test_arguments_of_a_wrong_type():
    processes(1, {"pattern": "room", "mode": "latest"})
    for wrong in (5, [None], b"ab"):
        with raises(TypeError, "expected a connection or a client id, not"):
            messages.publish("room", "x", exclude=wrong)
    with raises(TypeError, "expected a connection or a client id, not int"):
        messages.close(connection=5)
    with raises(TypeError, "key is a str, not int"):
        messages.publish("room", "x", key=5)
    with raises(TypeError, "idempotency_key is a str, not int"):
        messages.publish("room", "x", idempotency_key=5)
    with raises(TypeError, "a close code is an int, not str"):
        messages.close(group="room", code="x")
    with raises(TypeError, "the reason of a close is a str, not int"):
        messages.close(group="room", reason=5)
    assert messages.history("room") == []


def test_several_groups_reach_a_member_once():
    a, b = processes(2)
    one, two = a.connect(), b.connect()
    one.connection.join("x")
    for group in ("x", "y", "z"):
        two.connection.join(group)
    found = messages.publish_many(["x", "y", "z", "x"], "once")
    assert list(found) == ["x", "y", "z"]
    assert [each.receivers for each in found.values()] == [2, 1, 1]
    messages.publish_many(["x", "y"], "twice")
    assert (one.lines, two.lines) == (["once", "twice"], ["once", "twice"])


def test_broadcast():
    server = MemoryServer()
    a, b = Process(server, name="a"), Process(server, name="b")
    for each in (a, b):
        each.service.start_messaging()
    run_in(a)
    one, two = a.connect(), b.connect()
    assert messages.broadcast("all") == 2
    assert messages.broadcast("those", worker="b") == 1
    assert messages.broadcast("none", worker="c") == 0
    assert (one.lines, two.lines) == (["all"], ["all", "those"])


def test_one_connection():
    a, b = processes(2)
    one, two = a.connect(), b.connect()
    ids = [each.connection.client_id for each in (one, two)]
    assert len(set(ids)) == 2
    for each in ids:
        assert messages.send(each, "x")
        assert b.messages.calls.send(each, "y")
    assert one.lines == two.lines == ["x", "y"]
    one.connection.destroy()
    assert not messages.send(ids[0], "x")
    assert not messages.send("nobody.1", "x")
    for malformed in ("", ".", "x", "a.b.c", "é.1", ids[0] + "!"):
        assert not messages.send(malformed, "x")


def test_users():
    a, b = processes(2)
    one, two, three = a.connect(), b.connect(), b.connect()
    one.connection.bind("anna")
    two.connection.bind("anna")
    three.connection.bind("ben")
    assert messages.send_to_user("anna", "x") == 2
    assert messages.send_to_user("nobody", "x") == 0
    assert (one.lines, two.lines, three.lines) == (["x"], ["x"], [])
    assert messages.is_online("anna")
    assert sorted(messages.connections("anna")) == sorted(
        each.connection.client_id for each in (one, two)
    )
    two.connection.bind("ben")
    assert messages.connections("anna") == [one.connection.client_id]
    two.connection.unbind()
    two.connection.unbind()
    assert two.connection.uid is None
    assert len(messages.connections("ben")) == 1
    three.connection.destroy()
    assert not messages.is_online("ben")


def test_a_user_at_one_connection_only():
    a, b = processes(2)
    one, two, three, other = a.connect("frame"), a.connect(), b.connect(), b.connect()
    one.connection.bind("anna")
    two.connection.bind("anna")
    other.connection.bind("ben", single=True)
    three.connection.bind("anna", single=True)
    until(lambda: not one.is_open and not two.is_open)
    settle()
    assert three.is_open
    assert other.is_open
    four, five = a.connect(), b.connect()
    jobs = [gevent.spawn(each.connection.bind, "anna", single=True) for each in (four, five)]
    gevent.joinall(jobs)
    settle()
    assert not three.is_open
    assert [four.is_open, five.is_open] == [False, True], "the later one stays"
    five.connection.bind("anna", single=True)
    settle()
    assert five.is_open


def test_orders_from_anywhere():
    a, b = processes(2)
    one, two, three = a.connect(), b.connect(), b.connect()
    one.connection.bind("anna")
    messages.join("room", connection=two.connection.client_id)
    messages.join("room", user="anna")
    until(lambda: [one.connection.groups, two.connection.groups] == [["room"], ["room"]])
    messages.publish("room", "x")
    assert (one.lines, two.lines, three.lines) == (["x"], ["x"], [])
    messages.leave("room", user="anna")
    until(lambda: not one.connection.groups)
    one.connection.join("room")
    messages.disband("room")
    until(lambda: not one.connection.groups and not two.connection.groups)
    two.connection.join("room")
    messages.close(group="room")
    until(lambda: not two.is_open)
    messages.close(user="anna", code=4002, reason="bye")
    until(lambda: not one.is_open)
    messages.close(connection=three.connection.client_id)
    until(lambda: not three.is_open)
    messages.close(connection="nobody.1")
    for wrong in ({}, {"user": "x", "group": "y"}, {"connection": "a.1", "group": "x"}):
        with raises(TypeError, "exactly one of connection, user and group"):
            messages.close(**wrong)
    with raises(TypeError, "exactly one of connection and user"):
        messages.join("room")
    with raises(ValueError, "not a close code"):
        messages.close(user="x", code=999)


def test_functions_are_called_in_order():
    a, b = processes(2)
    got = []

    def slowly(message):
        gevent.sleep(0.002)
        got.append(message)

    b.messages.subscribe("jobs", slowly)
    b.messages.subscribe("jobs", slowly)
    other = []
    b.messages.subscribe("others", other.append)
    for number in range(20):
        messages.publish("jobs", [number])
    messages.publish("others", "quick")
    until(lambda: other)
    assert len(got) < 20
    until(lambda: len(got) == 20)
    assert got == [[number] for number in range(20)]
    b.messages.unsubscribe("jobs")
    messages.publish("jobs", "x")
    settle()
    assert len(got) == 20

    def fails(message):
        got.append(message)
        raise ValueError(message)

    b.messages.subscribe("jobs", fails)
    messages.publish("jobs", "1")
    messages.publish("jobs", "2")
    until(lambda: got[-2:] == ["1", "2"])
    assert b.exceptions == 2
    with raises(TypeError, "takes a function"):
        messages.subscribe("jobs", None)
    assert a.exceptions == 0


def test_what_functions_raise_stops_nothing():
    (a,) = processes(1)
    got = []

    def fails(message):
        gevent.sleep(0.01)
        raise {"1": gevent.Timeout, "2": SystemExit}[message](message)

    messages.subscribe("jobs", fails)
    messages.subscribe("jobs", got.append)
    messages.publish("jobs", "1")
    messages.publish("jobs", "2")
    until(lambda: got == ["1", "2"])
    assert a.exceptions == 2


class Numbers(PackageProtocol):
    """Carries bytes only."""

    name = "numbers"

    def package_length(self, buffer):
        return 1

    def decode(self, package):
        return package

    def encode(self, message):
        if message == b"exit":
            raise SystemExit(message)
        if type(message) is not bytes:
            raise TypeError("bytes only")
        return message


def test_what_a_protocol_cannot_carry():
    (a,) = processes(1)
    one, two = a.connect(Numbers), a.connect("text")
    for each in (one, two):
        each.connection.join("room")
    for _ in range(3):
        messages.publish("room", "a\nb")
    messages.publish("room", "good")
    messages.publish("room", b"exit")
    messages.publish("room", b"good")
    settle()
    assert one.is_open
    assert one.read() == b"good"
    assert two.read() == b"good\nexit\ngood\n"
    assert a.messages.delivery.dropped == 3 + 3 + 1 + 1
    assert a.messages.delivery.delivered == 4
    assert a.exceptions == 1


def test_slow_members():
    (a,) = processes(1, {"pattern": "closing", "slow": "close"})
    for group in ("closing", "dropping"):
        one = a.connect("tcp", max_send_buffer_size=1000)
        one.connection.join(group)
        for _ in range(100):
            messages.publish(group, "x" * 100_000)
        settle()
        assert one.connection.status == ("closing" if group == "closing" else "established")
        assert a.messages.delivery.dropped > 0
        one.connection.destroy()
    assert a.exceptions == 0


def test_what_connections_get_instead():
    def wrap(message, position):
        if message == "wrong":
            raise ValueError(message)
        if message == "worse":
            raise SystemExit(message)
        return {"at": bool(position), "message": message}

    (a,) = processes(
        1,
        {"pattern": "kept.*", "mode": "recoverable", "wrap": wrap},
        {"pattern": "*", "wrap": wrap},
    )
    one, got = a.connect(), []
    for group in ("kept.1", "other"):
        one.connection.join(group)
        messages.subscribe(group, got.append)
        messages.publish(group, "worse")
        messages.publish(group, ["x"])
        messages.publish(group, "wrong")
    assert [json.loads(each) for each in one.lines] == [
        {"at": True, "message": ["x"]},
        {"at": False, "message": ["x"]},
    ]
    assert sorted(map(str, got)) == ["['x']", "['x']", "worse", "worse", "wrong", "wrong"]
    assert a.exceptions == 4


def test_positions_and_history():
    a, b = processes(2, {"pattern": "kept", "mode": "recoverable", "history": 3})
    first = messages.position("kept")
    one = b.connect()
    assert one.connection.join("kept").position == first
    made = [messages.publish("kept", each) for each in ("a", {"b": 1}, b"c")]
    assert len({each.position for each in made}) == 3
    assert all(each.receivers == 1 for each in made)
    found = messages.history("kept")
    assert [each for _, each in found] == ["a", {"b": 1}, b"c"]
    assert [at for at, _ in found] == [each.position for each in made]
    assert messages.history("kept", since=found[0][0]) == found[1:]
    assert messages.history("kept", since=found[2][0], reverse=True) == [found[1], found[0]]
    assert messages.history("kept", limit=1, reverse=True) == found[2:]
    settle()
    assert one.connection.join("kept").position == made[-1].position == messages.position("kept")
    for foreign in ("", "x", "aaaaaaaa-1", "é", "-" * 64):
        assert messages.history("kept", since=foreign) == []
    assert messages.position("other") == ""
    assert messages.history("other") == []
    assert all(at.isascii() and len(at) <= 64 for at, _ in found)
    assert a.exceptions == b.exceptions == 0


def test_a_message_is_published_once():
    a, b = processes(2, {"pattern": "kept", "mode": "recoverable"})
    for group in ("kept", "fleeting"):
        one = b.connect()
        one.connection.join(group)
        first = a.messages.calls.publish(group, "x", idempotency_key="k")
        second = b.messages.calls.publish(group, "x", idempotency_key="k")
        assert not first.duplicate
        assert second.duplicate
        assert first.position == second.position
        assert one.lines == ["x"]


def test_keys_belong_to_latest_values():
    processes(1, {"pattern": "price.*", "mode": "latest"})
    for price in (1, 2):
        messages.publish("price.x", [price], key="gold")
    messages.publish("price.x", [3], key="tin")
    assert [each for _, each in messages.history("price.x")] == [[2], [3]]
    with raises(ValueError, "key= is for groups of mode latest"):
        messages.publish("other", "x", key="k")


def test_who_is_there():
    a, b = processes(2, {"pattern": "room*", "presence": True})
    one, two = a.connect(), b.connect()
    one.connection.join("room", presence={"name": "Anna"})
    two.connection.bind("ben")
    two.connection.join("room")
    found = sorted(messages.members("room"), key=lambda each: each.uid or "")
    assert [each[:] for each in found] == [
        (one.connection.client_id, None, {"name": "Anna"}),
        (two.connection.client_id, "ben", None),
    ]
    assert messages.count("room") == 2
    assert len(messages.members("room", limit=1)) == 1
    one.connection.join("room", presence=["other"])
    one.connection.bind("anna")
    two.connection.unbind()
    found = sorted(messages.members("room"), key=lambda each: each.uid or "")
    assert [each[1:] for each in found] == [(None, None), ("anna", ["other"])]
    two.connection.destroy()
    one.connection.leave("room")
    assert messages.count("room") == 0
    assert messages.count("room none") == 0
    for ask in (messages.members, messages.count):
        with raises(ValueError, "presence=True"):
            ask("other")
    with raises(ValueError, "at most 1024 bytes"):
        two.connection.join("room", presence="x" * 1023)
    with raises(TypeError, "presence has no JSON"):
        two.connection.join("room", presence=object())
    assert a.exceptions == b.exceptions == 0


def test_data():
    a, b = processes(2)
    messages.data.set("k", {"b": 1, "a": 2})
    run_in(b)
    data = messages.data
    assert data.get("k") == {"a": 2, "b": 1}
    assert data.get("none") is None
    assert data.get("none", 5) == 5
    assert data.add("new", 1)
    assert not data.add("new", 2)
    assert data.increment("new") == 2
    assert data.increment("count", -3) == -3
    assert data.compare_and_set("k", {"a": 2, "b": 1}, [1])
    assert not data.compare_and_set("k", {"a": 2, "b": 1}, [2])
    assert data.compare_and_set("fresh", None, [1])
    assert not data.compare_and_set("fresh", None, [2])
    assert sorted(data.keys()) == ["count", "fresh", "k", "new"]
    assert list(data.keys("f")) == ["fresh"]
    assert data.delete("k")
    assert not data.delete("k")
    data.set("short", 1, ttl=0.02)
    assert data.expire("new", 0.02)
    assert not data.expire("none", 1)
    gevent.sleep(0.05)
    assert data.get("short") is data.get("new") is None
    with raises(TypeError, "a key is a str"):
        data.get(5)
    with raises(ValueError, "cannot be empty"):
        data.set("", 1)
    with raises(TypeError, "has no JSON"):
        data.set("k", object())
    with raises(ValueError, "expected seconds"):
        data.set("k", 1, ttl=0)
    assert a.exceptions == 0


def test_while_the_broker_is_down():
    states, gaps = [], []
    a, b = processes(
        2,
        {"pattern": "room", "presence": True},
        on_broker_state=states.append,
        on_gap=lambda *given: gaps.append(given),
    )
    one, two, away = a.connect(), b.connect(), b.connect()
    one.connection.join("room")
    two.connection.join("room")
    away.connection.join("room")
    until(lambda: states == ["up", "up"])
    begun = time.time()
    b.broker.break_off()
    settle()
    assert b.messages.state == "down"
    assert messages.count("room") == 1
    for call in (
        lambda: b.messages.calls.publish("room", "x"),
        lambda: b.messages.calls.broadcast("x"),
        lambda: b.messages.calls.send(one.connection.client_id, "x"),
        lambda: b.messages.calls.members("room"),
        lambda: b.messages.calls.history("room"),
        lambda: b.messages.calls.close(user="x"),
    ):
        with raises(BrokerDown):
            call()
    late = b.connect()
    late.connection.join("room", presence=1)
    late.connection.bind("late")
    two.connection.bind("two")
    away.connection.leave("room")
    late.connection.join("other")
    assert late.connection.groups == ["room", "other"]
    b.broker.restore()
    until(lambda: messages.count("room") == 3)
    assert {each.uid for each in messages.members("room")} == {None, "late", "two"}
    until(lambda: messages.is_online("late"))
    messages.publish("room", "x")
    messages.publish("other", "y")
    assert two.lines == ["x"]
    assert late.lines == ["x", "y"]
    assert away.lines == []
    assert states == ["up", "up", "down", "up"]
    assert [each[0] for each in gaps] == [["room", "other"]]
    assert begun <= gaps[0][1] <= gaps[0][2] <= time.time()
    assert b.messages.gaps.count == 2
    assert b.exceptions == 0


def test_declarations_have_to_agree():
    server = MemoryServer()
    Process(server, {"pattern": "x*", "history": 5}).service.start_messaging()
    Process(server, {"pattern": "x*", "history": 5}).service.start_messaging()
    wrong = Process(server, {"pattern": "x*", "history": 6})
    with raises(ConfigError, "'x*' are declared twice, and differ: "):
        wrong.service.start_messaging()
    Process(server, {"pattern": "x*", "history": 6}, generation=2).service.start_messaging()


def test_a_message_that_is_none_is_dropped():
    a, b = processes(2)
    one = b.connect()
    one.connection.join("room")
    for payload in (b"", b"x", b"t\0", b"t\0\5{}", b"t\0\2[]x", b"c\0\0nonsense", b"c\0\0{}"):
        a.broker.call("publish", b"g:room", payload)
    a.broker.call("publish", b"g:room", b'c\0\0{"do":"something new"}')
    messages.publish("room", "x")
    assert one.lines == ["x"]


def test_a_large_room_is_served_in_slices():
    (a,) = processes(1)
    clients = [a.connect("text") for _ in range(700)]
    for each in clients:
        each.connection.join("room")
    worst = [0.0]

    def look():
        while True:
            begun = time.monotonic()
            gevent.sleep(0)
            worst[0] = max(worst[0], time.monotonic() - begun)

    watch = gevent.spawn(look)
    leaver = clients[-1]
    for number in range(5):
        messages.publish("room", str(number))
    leaver.connection.leave("room")
    until(lambda: a.messages.delivery.delivered >= 5 * 699)
    watch.kill()
    assert all(each.lines == list("01234") for each in clients[:3])
    assert worst[0] < 0.1, worst


class DownAfter:
    """A broker that takes so many commands, and is down then."""

    def __init__(self, process, count):
        self.left = count
        self.broker = process.broker
        self.taken = process.broker.call
        process.broker.call = self

    def __call__(self, *command):
        if not self.left:
            raise BrokerDown("the broker is down")
        self.left -= 1
        return self.taken(*command)


def test_a_message_to_several_of_which_some_have_it_is_uncertain():
    (a,) = processes(1)
    for taken, is_uncertain in ((0, False), (1, True)):
        failing = DownAfter(a, taken)
        try:
            messages.publish_many(["x", "y"], "1")
        except BrokerDown as error:
            assert error.uncertain is is_uncertain
        else:
            raise AssertionError("the broker is down")
        a.broker.call = failing.taken


def test_a_message_to_several_that_is_published_again_with_its_key():
    (a,) = processes(1)
    both, last = a.connect(), a.connect()
    both.connection.join("x")
    both.connection.join("y")
    last.connection.join("y")
    failing = DownAfter(a, 1)
    with raises(BrokerDown):
        messages.publish_many(["x", "y"], "1", idempotency_key="k")
    a.broker.call = failing.taken
    found = messages.publish_many(["x", "y"], "1", idempotency_key="k")
    assert [each.duplicate for each in found.values()] == [True, False]
    assert (both.lines, last.lines) == (["1"], ["1"])


def test_a_message_to_several_with_a_key_that_one_of_them_cannot_have():
    (a,) = processes(1, {"pattern": "price.*", "mode": "latest"})
    one = a.connect()
    one.connection.join("price.a")
    with raises(ValueError, "room"):
        messages.publish_many(["price.a", "room"], "1", key="k")
    assert one.lines == []
    assert messages.history("price.a") == []


def deep(depth):
    found = []
    for _ in range(depth):
        found = [found]
    return found


def test_json_that_is_nested_deeply():
    (a,) = processes(1)
    one, got = a.connect(), []
    one.connection.join("room")
    messages.subscribe("room", got.append)
    for call in (
        lambda: messages.publish("room", deep(10_000)),
        lambda: messages.publish_many(["room"], deep(10_000)),
        lambda: messages.data.set("k", deep(10_000)),
        lambda: one.connection.join("room", presence=deep(10_000)),
    ):
        with raises(ValueError, "nested too deeply"):
            call()
    text = b"[" * 10_000 + b"]" * 10_000
    a.broker.call("publish", b"g:room", b"j\0\0" + text)
    messages.publish("room", "next")
    assert one.lines == [text.decode(), "next"], "connections get the text"
    until(lambda: got == ["next"])
    assert a.messages.delivery.dropped == 1


def test_what_wrap_fails_with_is_counted():
    def wrap(message, position):
        return 1 / 0

    (a,) = processes(1, {"pattern": "*", "wrap": wrap})
    for _ in range(3):
        a.connect().connection.join("room")
    messages.publish("room", "x")
    settle()
    assert a.exceptions == 1
    assert a.messages.delivery.dropped == 3


def test_an_order_to_one_that_has_no_client_id_waits_for_nothing():
    (a,) = processes(1, {"pattern": "room", "presence": True})
    a.broker.break_off()
    settle()
    one = a.connect()
    one.connection.bind("anna", single=False)
    one.connection.join("room")
    membership = one.connection.membership
    membership.inbox = None
    asked = []
    a.broker.subscribe = asked.append
    a.messages.members.leave(one.connection, "room")
    a.messages.on_message(b"u:anna", b"\0c\0\0" + b'{"do":"single","keep":"x.1"}')
    assert asked == []
    assert one.connection.status != "established"


if __name__ == "__main__":
    run(globals())
