"""Every operation of a broker, over every broker."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import pytest
from broker_process import Process
from broker_servers import Server

from gworker.broker.interface import MAX_BODY, PAGE_BYTES
from gworker.errors import BrokerError

Brokers = Callable[[], Process]

LASTING = 60_000  # milliseconds: longer than a test takes
SHORT = 300


def keep(
    process: Process,
    channel: bytes,
    body: bytes,
    mode: bytes = b"recoverable",
    size: int = 100,
    ttl: int = LASTING,
    idempotency_key: bytes = b"",
    value_key: bytes = b"",
) -> Any:
    return process.call("keep", channel, mode, size, ttl, idempotency_key, value_key, body)


def history(
    process: Process,
    channel: bytes,
    epoch: bytes = b"",
    offset: int = 0,
    limit: int = 0,
    reverse: int = 0,
    mode: bytes = b"recoverable",
) -> Any:
    return process.call("history", channel, mode, epoch, offset, limit, reverse)


def enter(
    process: Process,
    channel: bytes,
    member: bytes,
    identity: bytes = b"ann",
    info: bytes = b"",
    previous: bytes = b"",
    is_told: bool = True,
    holder: bytes = b"",
) -> Any:
    """What tells of its leave is its identity."""
    holder = holder or process.name
    leave = identity if is_told else b""
    return process.call("enter", channel, holder, previous, member, identity, info, leave)


def numbered(first: int, last: int) -> list[list[object]]:
    step = 1 if first <= last else -1
    return [[n, b"%d" % n] for n in range(first, last + step, step)]


# -- publish


def test_what_is_published_reaches_each_process_that_subscribed(
    brokers: Brokers, room: bytes
) -> None:
    one, other, further = brokers(), brokers(), brokers()
    one.subscribe(room)
    other.subscribe(room, room + b"2")
    assert one.call("publish", room, b"hello") == 2
    assert further.call("publish", room, b"\0\r\n\xff") == 2
    assert further.call("publish", room + b"2", b"") == 1
    assert further.call("publish", room + b"3", b"nobody") == 0
    assert one.wait_for_payloads(room, 2) == [b"\0hello", b"\0\0\r\n\xff"]
    assert other.wait_for_payloads(room, 2) == [b"\0hello", b"\0\0\r\n\xff"]
    assert other.wait_for_payloads(room + b"2", 1) == [b"\0"]
    assert further.heard == []


def test_a_channel_is_subscribed_once(process: Process, room: bytes) -> None:
    process.subscribe(room)
    process.subscribe(room, room)
    assert process.call("publish", room, b"a") == 1
    assert process.wait_for_payloads(room, 1) == [b"\0a"]


def test_nothing_is_heard_of_a_channel_after_unsubscribe(brokers: Brokers, room: bytes) -> None:
    one, other = brokers(), brokers()
    one.subscribe(room, room + b"2")
    one.broker.unsubscribe([room])
    one.wait_for(lambda: other.call("publish", room, b"a") == 0)
    before = one.payloads(room)
    other.call("publish", room, b"b")
    other.call("publish", room + b"2", b"c")
    one.wait_for_payloads(room + b"2", 1)
    assert one.payloads(room) == before
    one.subscribe(room)
    assert other.call("publish", room, b"d") == 1
    one.wait_for(lambda: one.payloads(room) == [*before, b"\0d"])


def test_a_post_is_done_in_order_with_the_calls_that_follow(process: Process, room: bytes) -> None:
    process.subscribe(room)
    for n in range(50):
        process.broker.post("publish", room, b"%d" % n)
    process.call("publish", room, b"last")
    expected = [b"\0%d" % n for n in range(50)] + [b"\0last"]
    assert process.wait_for_payloads(room, 51) == expected


def test_a_large_body(process: Process, room: bytes) -> None:
    body = bytes(range(256)) * 4096
    process.subscribe(room)
    assert process.call("publish", room, body) == 1
    assert keep(process, room, body)[0] == 1
    payloads = process.wait_for_payloads(room, 2)
    assert payloads[0] == b"\0" + body
    assert payloads[1][17:] == body
    assert history(process, room)[3] == [[1, body]]


def test_a_process_that_has_closed_hears_nothing(brokers: Brokers, room: bytes) -> None:
    one, other = brokers(), brokers()
    one.subscribe(room)
    one.broker.close()
    other.wait_for(lambda: other.call("publish", room, b"a") == 0)


def test_what_is_no_operation_is_refused(process: Process, room: bytes) -> None:
    with pytest.raises(BrokerError):
        process.call("shout", room)
    with pytest.raises(BrokerError):
        process.call("members", room, b"many")
    assert process.call("count", room) == 0


# -- keep


def test_a_fleeting_message_is_not_stored(process: Process, room: bytes) -> None:
    process.subscribe(room)
    assert keep(process, room, b"a", mode=b"fleeting") == [1, b"", 0, 0]
    assert process.wait_for_payloads(room, 1) == [b"\0a"]
    assert history(process, room) == [b"", 0, 1, []]


def test_a_kept_message_has_the_next_offset(brokers: Brokers, room: bytes) -> None:
    one, other = brokers(), brokers()
    one.subscribe(room)
    receivers, epoch, offset, duplicate = keep(one, room, b"a")
    assert (receivers, offset, duplicate) == (1, 1, 0)
    assert len(epoch) == 8
    assert epoch.isascii()
    assert keep(other, room, b"b") == [1, epoch, 2, 0]
    assert one.wait_for_payloads(room, 2) == [
        b"\1" + epoch + (1).to_bytes(8, "big") + b"a",
        b"\1" + epoch + (2).to_bytes(8, "big") + b"b",
    ]
    assert other.call("position", room) == [epoch, 2]
    assert keep(other, room + b"2", b"b")[2] == 1


def test_an_unknown_mode_is_refused(process: Process, room: bytes) -> None:
    with pytest.raises(BrokerError):
        keep(process, room, b"a", mode=b"eternal")


@pytest.mark.parametrize("mode", [b"fleeting", b"recoverable", b"latest"])
def test_an_idempotency_key_is_published_once(brokers: Brokers, room: bytes, mode: bytes) -> None:
    one, other = brokers(), brokers()
    one.subscribe(room, room + b"2")
    _, epoch, offset, _ = keep(one, room, b"a", mode=mode, idempotency_key=b"key")
    keep(one, room, b"b", mode=mode)
    assert keep(other, room, b"c", mode=mode, idempotency_key=b"key") == [0, epoch, offset, 1]
    assert keep(other, room, b"d", mode=mode, idempotency_key=b"other")[3] == 0
    assert keep(other, room + b"2", b"e", mode=mode, idempotency_key=b"key")[3] == 0
    one.wait_for_payloads(room + b"2", 1)
    assert [each[-1:] for each in one.payloads(room)] == [b"a", b"b", b"d"]


def test_an_idempotency_key_of_two_at_once(brokers: Brokers, room: bytes) -> None:
    processes = [brokers() for _ in range(4)]
    answers: list[Any] = []
    together = Barrier(len(processes))

    def publish(process: Process) -> None:
        together.wait(10)
        answers.append(keep(process, room, b"a", idempotency_key=b"key"))

    in_threads(publish, processes)
    assert sorted(answer[3] for answer in answers) == [0, 1, 1, 1]
    assert {(answer[1], answer[2]) for answer in answers} == {(answers[0][1], 1)}


# -- history


def test_a_channel_without_a_position(process: Process, room: bytes) -> None:
    assert history(process, room) == [b"", 0, 1, []]
    assert history(process, room, b"12345678", 3) == [b"", 0, 0, []]
    epoch, offset = process.call("position", room)
    assert len(epoch) == 8
    assert offset == 0
    assert process.call("position", room) == [epoch, 0]
    assert history(process, room, epoch) == [epoch, 0, 1, []]
    assert keep(process, room, b"a")[1] == epoch


def test_history_from_an_offset(process: Process, room: bytes) -> None:
    for n in range(1, 6):
        _, epoch, *_ = keep(process, room, b"%d" % n)
    assert history(process, room) == [epoch, 5, 1, numbered(1, 5)]
    assert history(process, room, epoch) == [epoch, 5, 1, numbered(1, 5)]
    assert history(process, room, epoch, 3) == [epoch, 5, 1, numbered(4, 5)]
    assert history(process, room, epoch, 5) == [epoch, 5, 1, []]


def test_history_with_a_limit(process: Process, room: bytes) -> None:
    for n in range(1, 6):
        _, epoch, *_ = keep(process, room, b"%d" % n)
    assert history(process, room, epoch, 1, 4) == [epoch, 5, 1, numbered(2, 5)]
    assert history(process, room, epoch, 1, 3) == [epoch, 5, 0, numbered(2, 4)]
    assert history(process, room, limit=1) == [epoch, 5, 0, numbered(1, 1)]


def test_history_backwards(process: Process, room: bytes) -> None:
    for n in range(1, 6):
        _, epoch, *_ = keep(process, room, b"%d" % n)
    assert history(process, room, reverse=1) == [epoch, 5, 1, numbered(5, 1)]
    assert history(process, room, limit=2, reverse=1) == [epoch, 5, 0, numbered(5, 4)]
    assert history(process, room, epoch, 4, 2, reverse=1) == [epoch, 5, 0, numbered(3, 2)]
    assert history(process, room, epoch, 3, 2, reverse=1) == [epoch, 5, 1, numbered(2, 1)]
    assert history(process, room, epoch, 1, 2, reverse=1) == [epoch, 5, 1, []]


def test_history_of_another_epoch_or_of_what_has_not_been(process: Process, room: bytes) -> None:
    _, epoch, *_ = keep(process, room, b"1")
    foreign = b"0" * 8
    assert history(process, room, foreign) == [epoch, 1, 0, []]
    assert history(process, room, foreign, 1) == [epoch, 1, 0, []]
    assert history(process, room, b"?", 1) == [epoch, 1, 0, []]
    assert history(process, room, foreign, 1, reverse=1) == [epoch, 1, 0, []]
    assert history(process, room, epoch, 2) == [epoch, 1, 0, []]


def test_a_history_is_trimmed_to_its_size(process: Process, room: bytes) -> None:
    for n in range(1, 6):
        _, epoch, *_ = keep(process, room, b"%d" % n, size=3)
    assert history(process, room) == [epoch, 5, 0, numbered(3, 5)]
    assert history(process, room, epoch, 1) == [epoch, 5, 0, numbered(3, 5)]
    assert history(process, room, epoch, 2) == [epoch, 5, 1, numbered(3, 5)]
    assert history(process, room, epoch, 4, reverse=1) == [epoch, 5, 0, numbered(3, 3)]
    keep(process, room, b"6", size=1)
    assert history(process, room) == [epoch, 6, 0, numbered(6, 6)]


def test_a_position_outlives_its_entries(process: Process, server: Server, room: bytes) -> None:
    keep(process, room, b"1", ttl=SHORT)
    _, epoch, *_ = keep(process, room, b"2", ttl=SHORT)
    server.wait_until(lambda: history(process, room)[3] == [], 5)
    assert history(process, room) == [epoch, 2, 0, []]
    assert history(process, room, epoch, 1) == [epoch, 2, 0, []]
    assert history(process, room, epoch, 2) == [epoch, 2, 1, []]
    assert process.call("position", room) == [epoch, 2]
    assert keep(process, room, b"3") == [0, epoch, 3, 0]
    assert history(process, room, epoch, 2) == [epoch, 3, 1, numbered(3, 3)]
    assert history(process, room) == [epoch, 3, 0, numbered(3, 3)]


def test_an_epoch_is_ended(process: Process, room: bytes) -> None:
    _, epoch, *_ = keep(process, room, b"1")
    keep(process, room, b"2")
    later, offset = process.call("rotate", room, epoch)
    assert later != epoch
    assert len(later) == len(epoch)
    assert offset == 2
    assert process.call("rotate", room, epoch) == [later, 2], "it was done"
    assert process.call("position", room) == [later, 2]
    assert keep(process, room, b"3") == [0, later, 3, 0]
    assert history(process, room, epoch, 1) == [later, 3, 0, []]
    assert history(process, room, later, 1) == [later, 3, 1, numbered(2, 3)]
    made, offset = process.call("rotate", room + b"2", epoch)
    assert made not in (b"", epoch)
    assert process.call("position", room + b"2") == [made, 0] == [made, offset]


def test_each_message_gives_the_history_its_time_anew(
    process: Process, server: Server, room: bytes
) -> None:
    keep(process, room, b"1", ttl=SHORT)
    keep(process, room, b"2", ttl=LASTING)
    keep(process, room + b"2", b"1", ttl=0)
    server.wait(2 * SHORT / 1000)
    assert history(process, room)[2:] == [1, numbered(1, 2)]
    assert history(process, room + b"2")[2:] == [1, numbered(1, 1)]


@pytest.mark.parametrize("mode", [b"recoverable", b"latest"])
@pytest.mark.parametrize("is_reverse", [False, True])
def test_a_long_history_comes_in_pages(
    process: Process, room: bytes, mode: bytes, is_reverse: bool
) -> None:
    sizes = [MAX_BODY, MAX_BODY, *[1000] * 50, *[400_000] * 20, MAX_BODY]
    for n, size in enumerate(sizes):
        keep(process, room, b"%03d" % n + bytes(size - 3), mode=mode, value_key=b"%d" % n)
    epoch, top, *_ = history(process, room, mode=mode)
    assert top == len(sizes)
    place = top + 1 if is_reverse else 0
    found: list[tuple[int, bytes]] = []
    pages = 0
    while place != (1 if is_reverse else top):
        page = history(process, room, epoch, place, 100, is_reverse, mode)
        assert page[:3] == [epoch, top, 1]
        assert sum(len(body) for _, body in page[3][:-1]) < PAGE_BYTES
        found += page[3]
        place = found[-1][0]
        pages += 1
    expected = [(n, b"%03d" % (n - 1), size) for n, size in enumerate(sizes, 1)]
    seen = [(offset, body[:3], len(body)) for offset, body in found]
    assert (seen[::-1] if is_reverse else seen) == expected
    assert 9 <= pages <= 14
    assert history(process, room, epoch, top, 0, 0, mode) == [epoch, top, 1, []]
    limited = history(process, room, epoch, 2, 10, 0, mode)
    assert (limited[2], len(limited[3])) == (0, 10)


def test_the_latest_of_each_key(process: Process, server: Server, room: bytes) -> None:
    def latest(**arguments: Any) -> Any:
        return history(process, room, mode=b"latest", **arguments)

    for value_key, body in ((b"a", b"a1"), (b"b", b"b1"), (b"a", b"a2"), (b"", b"none")):
        answer = keep(process, room, body, mode=b"latest", size=3, ttl=SHORT, value_key=value_key)
    epoch = answer[1]
    everything = [[2, b"b1"], [3, b"a2"], [4, b"none"]]
    assert latest() == [epoch, 4, 1, everything]
    assert latest(epoch=epoch, offset=2) == [epoch, 4, 1, everything[1:]]
    assert latest(reverse=1)[3] == everything[::-1]
    assert latest(limit=2) == [epoch, 4, 0, everything[:2]]
    assert latest(epoch=b"0" * 8) == [epoch, 4, 0, []]
    keep(process, room, b"c1", mode=b"latest", size=3, ttl=SHORT, value_key=b"c")  # b goes
    assert latest() == [epoch, 5, 0, [[3, b"a2"], [4, b"none"], [5, b"c1"]]]
    assert latest(epoch=epoch, offset=2)[2] == 1
    server.wait(2 * SHORT / 1000)
    assert len(latest()[3]) == 3


def test_a_channel_that_becomes_another_mode(process: Process, room: bytes) -> None:
    keep(process, room, b"1")
    _, epoch, *_ = keep(process, room, b"2", mode=b"latest", value_key=b"a")
    assert history(process, room, mode=b"latest")[3] == [[2, b"2"]]
    assert history(process, room, epoch, 1, mode=b"latest")[2:] == [1, [[2, b"2"]]]


# -- presence


def test_members_and_their_count(brokers: Brokers, room: bytes) -> None:
    one, other = brokers(), brokers()
    assert other.call("members", room, 0) == []
    assert other.call("count", room) == 0
    assert enter(one, room, b"m1", b"ann", b'{"a":1}') == 1
    assert enter(other, room, b"m2", b"bob", b"") == 1
    assert sorted(one.call("members", room, 0)) == [
        [b"m1", b"ann", b'{"a":1}'],
        [b"m2", b"bob", b""],
    ]
    assert one.call("count", room) == other.call("count", room) == 2
    assert len(one.call("members", room, 1)) == 1
    assert one.call("count", room + b"2") == 0
    assert one.call("exit", room, one.name, b"m1") == 1
    assert one.call("exit", room, one.name, b"m1") == 0
    assert one.call("members", room, 0) == [[b"m2", b"bob", b""]]
    assert one.call("count", room) == 1


def test_an_identity_is_new_once(brokers: Brokers, room: bytes) -> None:
    one, other = brokers(), brokers()
    assert enter(one, room, b"m1") == 1
    assert enter(one, room, b"m2") == 0
    assert enter(other, room, b"m3") == 0
    assert enter(other, room, b"m4", b"bob") == 1
    assert enter(other, room + b"2", b"m3") == 1
    assert one.call("exit", room, one.name, b"m1") == 0
    assert one.call("exit", room, other.name, b"m3") == 0
    assert one.call("exit", room, one.name, b"m2") == 1


def test_a_member_that_enters_again_is_replaced(process: Process, room: bytes) -> None:
    enter(process, room, b"m1", b"ann", b"1")
    assert enter(process, room, b"m1", b"ann", b"2") == 0
    assert process.call("members", room, 0) == [[b"m1", b"ann", b"2"]]
    assert process.call("count", room) == 1
    assert enter(process, room, b"m1", b"bob", b"3") == 1
    assert process.call("members", room, 0) == [[b"m1", b"bob", b"3"]]
    assert enter(process, room, b"m2", b"ann") == 0, "its leave was waiting"
    assert process.call("exit", room, process.name, b"m1") == 1
    assert process.call("exit", room, process.name, b"m2") == 1


def test_a_member_that_another_process_holds_from_now_on(brokers: Brokers, room: bytes) -> None:
    old, new = brokers(), brokers()
    enter(old, room, b"m1", info=b"1")
    assert enter(new, room, b"m1", info=b"2", previous=old.name) == 0
    assert new.call("members", room, 0) == [[b"m1", b"ann", b"2"]]
    assert new.call("count", room) == 1
    assert old.call("exit", room, old.name, b"m1") == 0, "it is the new process's"
    assert new.call("reap", b"", old.name) == 0
    assert new.call("count", room) == 1
    assert enter(new, room, b"m2", b"bob", previous=old.name) == 1, "it held no such member"
    assert new.call("exit", room, new.name, b"m1") == 1


def publish_leaves(process: Process) -> None:
    process.call("publish_due_leaves", b"", b"<", b",", b">")
    time.sleep(0.01)  # it hears of them


def leaves(process: Process, room: bytes) -> list[bytes]:
    """What the process has heard of leaves in a room, which it has subscribed to."""
    texts: list[bytes] = []
    for payload in process.payloads(room):
        assert payload.startswith(b"\0<")
        assert payload.endswith(b">")
        texts += payload[2:-1].split(b",")
    return sorted(texts)


def test_leaves_are_published_after_three_seconds_and_once(
    brokers: Brokers, server: Server, room: bytes
) -> None:
    one, other = brokers(), brokers()
    other.subscribe(room)
    enter(one, room, b"m1", b"ann", b"info")
    enter(one, room, b"m2", b"ann")
    enter(one, room, b"m3", b"bob")
    enter(one, room, b"m4", b"cyd", is_told=False)
    enter(one, room, b"m5", b"dan")
    for member in (b"m2", b"m3", b"m4", b"m1"):
        one.call("exit", room, one.name, member)
    enter(one, room, b"m5", b"eve")  # dan is gone
    assert enter(other, room, b"m6", b"bob") == 0, "it is back in time"
    assert enter(other, room, b"m7", b"cyd") == 1, "no leave is told of it"

    def look() -> bool:
        publish_leaves(other)
        publish_leaves(one)
        return bool(other.payloads(room))

    passed = server.wait_until(look, 10)
    assert 2.5 <= passed <= 4.5
    assert leaves(other, room) == [b"ann", b"dan"]
    assert len(other.payloads(room)) == 1
    assert enter(other, room, b"m1", b"ann") == 1, "its leave has been told"
    assert other.call("exit", room, other.name, b"m6") == 1
    server.wait(3.3)
    assert enter(other, room, b"m6", b"bob") == 0, "its leave was due, and was not asked for"
    server.wait(1)
    publish_leaves(one)
    assert other.call("publish", room, b"<last>") == 1
    other.wait_for(lambda: b"last" in leaves(other, room))
    assert leaves(other, room) == [b"ann", b"dan", b"last"]


def test_leaves_that_are_due_in_many_channels_are_published_once(
    brokers: Brokers, server: Server, room: bytes
) -> None:
    processes = [brokers() for _ in range(4)]
    rooms = [room + b"%d" % n for n in range(40)]
    processes[0].subscribe(*rooms)
    for each in rooms:
        for n in range(3):
            enter(processes[0], each, b"m%d" % n, b"id%d" % n)
    processes[0].call("reap", b"", processes[0].name)
    server.wait(3.3)
    together = Barrier(len(processes))

    def ask(process: Process) -> None:
        together.wait(10)
        for _ in range(20):
            publish_leaves(process)

    def are_all_there() -> bool:
        in_threads(ask, processes)
        return all(processes[0].payloads(each) for each in rooms)

    server.wait_until(are_all_there, 3)
    for each in rooms:
        assert leaves(processes[0], each) == [b"id0", b"id1", b"id2"]


def test_leaves_of_many_bytes_are_several_messages(
    process: Process, server: Server, room: bytes
) -> None:
    process.subscribe(room)
    identities = [b"%03d" % n + bytes(1000) for n in range(600)]
    for each in identities:
        enter(process, room, each[:3], each)
    process.call("reap", b"", process.name)
    server.wait(3.3)

    def look() -> bool:
        publish_leaves(process)
        return sum(map(len, process.payloads(room))) > 600_000

    server.wait_until(look, 5)
    assert leaves(process, room) == identities
    assert len(process.payloads(room)) == 3


def test_members_of_a_process_without_a_lease_are_hidden(
    process: Process, server: Server, room: bytes, token: bytes
) -> None:
    stranger = b"p" + token
    enter(process, room, b"m1", holder=stranger)
    enter(process, room, b"m2", b"bob")
    assert process.call("members", room, 0) == [[b"m2", b"bob", b""]]
    assert process.call("count", room) == 1
    assert process.call("renew", b"", stranger, LASTING) == 0
    assert process.call("count", room) == 2
    assert process.call("renew", b"", stranger, 400) == 1
    assert len(process.call("members", room, 0)) == 2
    server.wait_until(lambda: process.call("count", room) == 1, 5)
    assert process.call("members", room, 1) == [[b"m2", b"bob", b""]]
    assert process.call("renew", b"", stranger, LASTING) == 0, "it is told that it was fenced"
    assert process.call("reap", b"", stranger) == 1
    assert process.call("renew", b"", stranger, 1) == 0, "and after the reap"


def test_a_process_that_is_reaped(
    brokers: Brokers, server: Server, room: bytes, token: bytes
) -> None:
    process, dead = brokers(), b"p" + token
    process.call("renew", b"", dead, LASTING)
    enter(process, room, b"m1", b"ann", b"info", holder=dead)
    enter(process, room, b"m2", b"ann", holder=dead)
    enter(process, room, b"m3", b"bob", holder=dead)
    enter(process, room, b"m4", b"bob")
    enter(process, room + b"2", b"m1", b"ann", holder=dead)
    enter(process, b"u:" + token, b"m1", is_told=False, holder=dead)
    assert process.call("reap", b"", dead) == 5
    assert process.call("reap", b"", dead) == 0
    assert process.call("members", room, 0) == [[b"m4", b"bob", b""]]
    assert process.call("count", room + b"2") == 0
    assert process.call("count", b"u:" + token) == 0
    assert enter(process, room + b"2", b"m9", b"ann") == 0, "it is back in time"
    process.subscribe(room, room + b"2")
    server.wait(3.3)

    def look() -> bool:
        publish_leaves(process)
        return bool(process.payloads(room))

    server.wait_until(look, 3)
    assert leaves(process, room) == [b"ann"]
    assert leaves(process, room + b"2") == []


def test_the_members_of_a_process_that_closes_are_gone(brokers: Brokers, room: bytes) -> None:
    one, other = brokers(), brokers()
    enter(one, room, b"m1")
    assert other.call("count", room) == 1
    one.broker.close()
    other.wait_for(lambda: other.call("count", room) == 0)


# -- data


def test_values(brokers: Brokers, key: bytes) -> None:
    one, other = brokers(), brokers()
    assert one.call("get", key) is None
    assert one.call("set", key, b'{"a":1}', 0) == 1
    assert other.call("get", key) == b'{"a":1}'
    assert other.call("set", key, b"", 0) == 1
    assert one.call("get", key) == b""
    assert other.call("add", key, b"2", 0) == 0
    assert one.call("get", key) == b""
    assert one.call("delete", key) == 1
    assert one.call("delete", key) == 0
    assert other.call("get", key) is None
    assert other.call("add", key, b"2", 0) == 1
    assert one.call("get", key) == b"2"


def test_increment(process: Process, key: bytes) -> None:
    assert process.call("increment", key, 5) == 5
    assert process.call("increment", key, -7) == -2
    assert process.call("get", key) == b"-2"
    process.call("set", key, b"%d" % (2**63 - 2), 0)
    assert process.call("increment", key, 1) == 2**63 - 1
    with pytest.raises(BrokerError):
        process.call("increment", key, 1)
    assert process.call("get", key) == b"%d" % (2**63 - 1)
    for value in (b'"a"', b"1.5", b"01", b" 1", b"", b"+1", b"null"):
        process.call("set", key, value, 0)
        with pytest.raises(BrokerError):
            process.call("increment", key, 1)
        assert process.call("get", key) == value


def test_increments_of_many_at_once(brokers: Brokers, key: bytes) -> None:
    def add(process: Process) -> None:
        for _ in range(100):
            process.call("increment", key, 1)

    processes = [brokers() for _ in range(4)]
    in_threads(add, processes)
    assert processes[0].call("get", key) == b"400"


def test_compare_and_set_compares_the_text(process: Process, key: bytes) -> None:
    def compare_and_set(expected: bytes | None, value: bytes) -> Any:
        has_expected = expected is not None
        return process.call("compare_and_set", key, has_expected, expected or b"", value)

    assert compare_and_set(b"", b"1") == 0, "none is not an empty one"
    assert compare_and_set(None, b'{"a":1}') == 1
    assert compare_and_set(None, b"2") == 0
    assert compare_and_set(b'{"a": 1}', b"2") == 0, "canonical text has no space"
    assert compare_and_set(b'{"a":1}', b"") == 1
    assert compare_and_set(None, b"2") == 0, "an empty one is not none"
    assert compare_and_set(b"", b"3") == 1
    assert process.call("get", key) == b"3"


def test_a_time_to_live(process: Process, server: Server, key: bytes) -> None:
    short, kept, counted, compared, lengthened = (key + each for each in (
        b"short", b"kept", b"counted", b"compared", b"lengthened",
    ))  # fmt: skip
    process.call("set", short, b"1", SHORT)
    process.call("add", kept, b"1", SHORT)
    process.call("set", kept, b"2", 0)
    process.call("add", counted, b"1", SHORT)
    process.call("increment", counted, 1)
    process.call("set", compared, b"1", SHORT)
    process.call("compare_and_set", compared, 1, b"1", b"2")
    process.call("set", lengthened, b"1", SHORT)
    assert process.call("expire", lengthened, LASTING) == 1
    assert process.call("get", short) == b"1"
    assert process.call("expire", key, SHORT) == 0
    server.wait(2 * SHORT / 1000)
    assert process.call("get", short) is None
    assert process.call("get", counted) is None
    assert process.call("get", compared) is None
    assert process.call("expire", short, LASTING) == 0
    assert process.call("add", short, b"2", 0) == 1
    assert process.call("get", kept) == b"2"
    assert process.call("get", lengthened) == b"1"
    process.call("expire", lengthened, SHORT)
    process.call("expire", kept, SHORT)
    process.call("expire", kept, 0)
    server.wait(2 * SHORT / 1000)
    assert process.call("get", lengthened) is None
    assert process.call("get", kept) == b"2"
    for operation in ("set", "add"):
        with pytest.raises(BrokerError):
            process.call(operation, key, b"1", -1)
    with pytest.raises(BrokerError):
        process.call("expire", kept, -1)


def walk(process: Process, prefix: bytes) -> list[bytes]:
    found: list[bytes] = []
    cursor = b""
    while True:
        cursor, page = process.call("keys", b"", prefix, cursor)
        found += page
        if not cursor:
            return found


def test_keys_are_walked_in_pages(process: Process, key: bytes) -> None:
    assert walk(process, key) == []
    names = {key + b":%d" % n for n in range(2500)}
    for name in names:
        process.broker.post("set", name, b"1", b"0")
    process.call("set", key[:-1] + b"?", b"1", 0)
    assert set(walk(process, key)) == names
    assert set(walk(process, key + b":24")) == {n for n in names if n.startswith(key + b":24")}
    assert walk(process, key + b":x") == []
    process.call("delete", key + b":7")
    assert set(walk(process, key)) == names - {key + b":7"}


def test_keys_with_characters_of_a_pattern(process: Process, key: bytes) -> None:
    names = {key + each for each in (b"*", b"?", b"[a]", b"\\", b"a", "é".encode(), b"\xff")}
    for name in names:
        process.call("set", name, b"1", 0)
    assert set(walk(process, key)) == names
    for name in names:
        assert set(walk(process, name)) == {name}


def test_a_key_that_stays_is_found_while_others_come_and_go(brokers: Brokers, key: bytes) -> None:
    process, other = brokers(), brokers()
    stay = {key + b"stay%d" % n for n in range(1500)}
    for name in stay:
        process.broker.post("set", name, b"1", b"0")
    process.call("get", key)
    found: set[bytes] = set()
    cursor, turn = b"", 0
    while cursor or not turn:
        cursor, page = process.call("keys", b"", key, cursor)
        found.update(page)
        for n in range(20):
            other.call("set", key + b"%d.%d" % (turn, n), b"1", 0)
            other.call("delete", key + b"%d.%d" % (turn - 1, n))
        turn += 1
        assert turn < 1000
    assert stay <= found


# -- declarations


def test_declarations(brokers: Brokers, token: bytes) -> None:
    one, other = brokers(), brokers()
    first, second = token + b"-*", token + b"-b*"

    def declared() -> list[Any]:
        return [each for each in other.call("declarations", b"") if each[0].startswith(token)]

    assert declared() == []
    assert one.call("declare", b"", first, b"{1}", 1) == b""
    assert one.call("declare", b"", second, b"{2}", 1) == b""
    assert other.call("declare", b"", first, b"{1}", 1) == b""
    assert declared() == [[first, b"{1}"], [second, b"{2}"]]
    assert other.call("declare", b"", first, b"{3}", 1) == b"{1}", "of the same generation"
    assert other.call("declare", b"", first, b"{3}", 0) == b"{1}"
    assert declared() == [[first, b"{1}"], [second, b"{2}"]]
    assert other.call("declare", b"", first, b"{3}", 2) == b""
    assert declared() == [[first, b"{3}"], [second, b"{2}"]], "it keeps its place"
    assert one.call("declare", b"", first, b"{1}", 1) == b"{3}", "it is older"
    assert one.call("declare", b"", first, b"{3}", 1) == b""
    assert one.call("declare", b"", first, b"{4}", 2) == b"{3}", "the greater generation stays"
    assert one.call("declare", b"", first, b"{3}", 10) == b""
    assert one.call("declare", b"", first, b"{5}", 9) == b"{3}", "as numbers, not as text"


# -- more than one at once


def in_threads(do: Callable[[Process], None], processes: list[Process]) -> None:
    failures: list[BaseException] = []

    def one(process: Process) -> None:
        try:
            do(process)
        except BaseException as error:
            failures.append(error)

    threads = [Thread(target=one, args=(each,)) for each in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("is_kept", [False, True])
def test_all_subscribers_hear_one_order(brokers: Brokers, room: bytes, is_kept: bool) -> None:
    processes = [brokers() for _ in range(4)]
    for process in processes:
        process.subscribe(room)
    together = Barrier(len(processes))

    def publish(process: Process) -> None:
        together.wait(10)
        for n in range(100):
            body = b"%b %d" % (process.name, n)
            if is_kept:
                keep(process, room, body, size=1000)
            elif n % 2:
                process.broker.post("publish", room, body)
            else:
                process.call("publish", room, body)

    in_threads(publish, processes)
    orders = [process.wait_for_payloads(room, 400) for process in processes]
    assert all(order == orders[0] for order in orders)
    bodies = [payload[17 if is_kept else 1 :] for payload in orders[0]]
    for process in processes:
        own = [body for body in bodies if body.startswith(process.name)]
        assert own == [b"%b %d" % (process.name, n) for n in range(100)]
    if is_kept:
        assert [int.from_bytes(each[9:17], "big") for each in orders[0]] == list(range(1, 401))
        assert history(processes[0], room)[3] == [[n, b] for n, b in enumerate(bodies, 1)]


@pytest.mark.parametrize("attempt", range(3))
def test_who_joins_while_others_publish_misses_nothing(
    brokers: Brokers, room: bytes, attempt: int
) -> None:
    """Subscribe, then read the history: each offset is in one of them, or in both."""
    publishers = [brokers() for _ in range(2)]
    joining = [brokers() for _ in range(3)]
    seen: dict[bytes, tuple[int, int, list[int]]] = {}

    def run(process: Process) -> None:
        if process in publishers:
            for n in range(150):
                keep(process, room, b"%d" % n, size=1000)
                time.sleep(0.0005 * (n % 3))
            return
        time.sleep(0.03 * (attempt + joining.index(process)))
        epoch, since = process.call("position", room)
        process.subscribe(room)
        answer = history(process, room, epoch, since)
        assert answer[0] == epoch
        assert answer[2] == 1
        offsets = [offset for offset, _ in answer[3]]
        assert offsets == list(range(since + 1, answer[1] + 1))
        seen[process.name] = since, answer[1], offsets

    in_threads(run, [*publishers, *joining])
    for process in joining:
        since, top, offsets = seen[process.name]

        def live(process: Process = process) -> list[int]:
            return [int.from_bytes(each[9:17], "big") for each in process.payloads(room)]

        process.wait_for(lambda live=live, top=top: (live() or [top])[-1] == 300)
        assert live() == sorted(set(live()))
        assert sorted({*offsets, *live()}) == list(range(since + 1, 301))
