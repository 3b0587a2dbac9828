"""Sender and receiver in one event loop: each function is a scenario, and is run in this order."""

from __future__ import annotations

import _socket
import errno
import itertools
import os
import select
import time
from pathlib import Path

import gevent
from gevent import get_hub
from scenario_process import run

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.connection.dispatcher import new_job
from gworker.handover import receiver, sender
from gworker.handover.link import BATCH, Link
from gworker.handover.receiver import HandoverReceiver
from gworker.handover.sender import HandoverSender
from gworker.ipc import fd_socket
from gworker.ipc.scoreboard import Column, Scoreboard
from gworker.protocols import get

board = Scoreboard(64)
loop = get_hub().loop
worker = Worker("text://127.0.0.1:1", name="w", handover=True)
worker.on_message = lambda connection, line: connection.send(f"{connection.id} {line}")
closed = []
worker.on_close = closed.append
errors = []
worker.on_error = lambda connection, code, message: errors.append((code, message))


def service(first_id=1, most=0, declared=worker):
    return ServerContext(
        declared,
        Limits(max_connections=most),
        board.row(board.take()),
        loop,
        itertools.count(first_id),
    )


def connect(owner, count=1, protocol="text"):
    made = []
    for _ in range(count):
        near, far = _socket.socketpair()
        near.setblocking(False)
        connection = Connection(
            owner, near, None, get(protocol) if isinstance(protocol, str) else protocol
        )
        connection.open()
        made.append((connection, far))
    return made


def link():
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    return ours.detach(), theirs.detach()


def until(condition):
    with gevent.Timeout(10):
        while not condition():
            gevent.sleep(0.001)


def hear(far, size=1000):
    "What comes next: a blocking recv would stop the loop that is to send it."
    until(lambda: select.select([far], [], [], 0)[0])
    return far.recv(size)


def answer(far, text):
    far.send(text + b"\n")
    return hear(far)


old, new = service(), service(2**32 + 1)
idle = []
giver = HandoverSender(old, lambda: idle.append(1))


def is_in_transit():
    return any(each.migration is not None for each in old.registry.connections.values())


def test_many_move_and_the_books_are_right():
    pairs = connect(old, 3 * BATCH + 5)
    ours, theirs = link()
    HandoverReceiver(new, theirs, len(pairs))
    assert new.registry.expected == len(pairs)
    giver.give_to([ours])
    until(lambda: idle)
    assert (len(old.registry.connections), len(new.registry.connections)) == (0, len(pairs))
    assert new.registry.expected == 0
    assert old.row[Column.CONNECTIONS] == 0
    assert new.row[Column.CONNECTIONS] == len(pairs)
    assert old.row[Column.HANDED_OVER] == len(pairs)
    for connection, far in pairs:
        assert connection.status == "closed"
        assert not connection.send("x")
        assert answer(far, b"a") == b"%d a\n" % connection.id
    assert not closed


def test_a_taker_that_dies_before_it_answers_has_taken_nothing():
    pairs = connect(old, 3)
    ours, theirs = link()
    giver.give_to([ours])
    taker = _socket.socket(fileno=theirs)
    taker.send(b'{"room": 100}')
    until(is_in_transit)
    assert {connection.status for connection, _ in pairs} == {"migrating"}
    far = pairs[0][1]
    far.send(b"meanwhile\n")
    gevent.sleep(0.05)
    assert pairs[0][0].send("while it leaves")
    taker.close()  # with the batch unread
    until(lambda: not is_in_transit())
    gevent.sleep(0.05)
    assert hear(far) == b"while it leaves\n%d meanwhile\n" % pairs[0][0].id
    assert len(old.registry.connections) == 3


def test_what_was_sent_to_a_peer_that_left_meanwhile_is_refused():
    ((connection, far),) = connect(old)
    ours, theirs = link()
    giver.give_to([ours])
    taker = _socket.socket(fileno=theirs)
    taker.send(b'{"room": 100}')
    until(is_in_transit)
    assert connection.send("one")
    assert connection.send("two")
    far.close()
    failed, raised = old.row[Column.SEND_FAILURES], old.row[Column.EXCEPTIONS]
    taker.close()
    until(lambda: connection.status == "closed")
    gevent.sleep(0.01)
    assert old.row[Column.SEND_FAILURES] == failed + 2
    assert old.row[Column.EXCEPTIONS] == raised
    assert closed.pop() is connection
    until(lambda: len(errors) == 2)
    assert [message for _, message in errors] == ["client closed"] * 2
    errors.clear()


def test_who_is_offered_twice_moves_once():
    ((connection, far),) = connect(old)
    before = len(new.registry.connections)
    ours, theirs = link()
    HandoverReceiver(new, theirs, 1)
    giver.give_to([ours])
    for _ in range(5):
        giver.offer(connection)
    until(lambda: connection.status == "closed")
    gevent.sleep(0.05)
    assert len(new.registry.connections) == before + 1
    assert answer(far, b"once") == b"%d once\n" % connection.id


def test_an_answer_of_a_taker_that_died_with_something_unread_counts():
    ((one, _far),) = connect(old)
    ours, theirs = link()
    giver.give_to([ours])
    taker = _socket.socket(fileno=theirs)
    taker.send(b'{"room": 100}')
    until(is_in_transit)
    taker.recvmsg(65536, 4096)  # it has taken the first batch
    ((two, _),) = connect(old)
    giver.offer(two)
    until(lambda: two.status == "migrating")
    taker.send(b'{"refused": []}')
    taker.close()  # and dies with the second unread
    until(lambda: not is_in_transit())
    assert (one.status, two.status) == ("closed", "established")


def test_an_older_taker_is_let_go():
    connect(old)
    first, second = link(), link()
    giver.give_to([first[0]])
    elder = HandoverReceiver(new, first[1], 1)
    until(lambda: not giver.is_busy)
    assert elder in new.receivers
    giver.give_to([second[0]])
    until(lambda: elder not in new.receivers)
    HandoverReceiver(new, second[1], 0)


def test_one_that_is_refused_stays_and_is_left_alone():
    pairs = connect(old, 2)
    ours, theirs = link()
    pairs[0][0].context.value = Unloadable()
    HandoverReceiver(new, theirs, 2)
    giver.give_to([ours])
    until(lambda: pairs[1][0].status == "closed")
    until(lambda: not is_in_transit())
    kept, far = pairs[0]
    assert kept.status == "established"
    assert giver.obstacle(kept)
    assert answer(far, b"still") == b"%d still\n" % kept.id


def test_one_that_is_offered_again_and_again_before_there_is_room_goes_once():
    pairs = connect(old, 3)
    ours, theirs = link()
    giver.give_to([ours])
    for _ in range(5):  # each time that its handler has ended, say
        for connection, _ in pairs:
            giver.offer(connection)
    before = old.row[Column.HANDED_OVER], new.row[Column.CONNECTIONS]
    idle.clear()
    HandoverReceiver(new, theirs, 3)
    until(lambda: idle)
    assert (old.row[Column.HANDED_OVER], new.row[Column.CONNECTIONS]) == (
        before[0] + 3,
        before[1] + 3,
    )
    assert not old.registry.connections
    for connection, far in pairs:
        assert answer(far, b"a") == b"%d a\n" % connection.id


def test_no_more_go_than_there_is_room_for():
    pairs = connect(old, 5)
    ours, theirs = link()
    small = service(2**34, most=3)
    HandoverReceiver(small, theirs, 5)
    assert small.registry.expected == 3
    giver.give_to([ours])
    until(lambda: len(small.registry.connections) == 3 and not giver.is_busy)
    assert small.registry.expected == 0
    stay = [connection for connection, _ in pairs if connection.status == "established"]
    assert len(stay) == 2
    assert not any(not giver.obstacle(connection) for connection in stay)


def test_several_takers_share():
    third = service(2**33)
    before = len(new.registry.connections)
    pairs = connect(old, 4 * BATCH)
    links = [link(), link()]
    HandoverReceiver(new, links[0][1], 200)
    HandoverReceiver(third, links[1][1], 200)
    giver.give_to([ours for ours, _ in links])
    until(lambda: all(connection.status == "closed" for connection, _ in pairs))
    assert len(third.registry.connections) >= BATCH
    assert len(new.registry.connections) - before >= BATCH


def test_the_kernel_takes_no_more_for_a_while():
    # ETOOMANYREFS: too many descriptors of this user are on their way (unix(7)).
    pairs = connect(old, 2)
    send, refused = Link.send, []

    def full(self, message, descriptors):
        if descriptors and len(refused) < 3:
            refused.append(1)
            raise OSError(errno.ETOOMANYREFS, "Too many references")
        send(self, message, descriptors)

    Link.send = full
    ours, theirs = link()
    HandoverReceiver(new, theirs, 2)
    giver.give_to([ours])
    until(lambda: all(connection.status == "closed" for connection, _ in pairs))
    assert len(refused) == 3
    Link.send = send


def test_an_id_that_is_in_use_is_refused():
    ((connection, _far),) = connect(old)
    ((other, _),) = connect(new)
    del old.registry.connections[connection.id]
    connection.id = other.id
    old.registry.connections[connection.id] = connection
    ours, theirs = link()
    HandoverReceiver(new, theirs, 1)
    giver.give_to([ours])
    until(lambda: giver.obstacle(connection))
    assert connection.status == "established"


def test_who_is_late_for_a_room_is_refused_at_arrival():
    pairs = connect(old, 3)
    ours, theirs = link()
    small = service(2**35, most=3)
    HandoverReceiver(small, theirs, 3)
    newcomers = connect(small, 2)  # that the acceptor would not have taken
    giver.give_to([ours])
    until(lambda: not giver.is_busy and len(small.registry.connections) == 3)
    assert [c.status for c, _ in pairs].count("established") == 2 == len(newcomers)


def test_room_is_not_kept_for_connections_that_do_not_come():
    ((busy, _),) = connect(old)
    job = new_job(busy, [])
    job.greenlet = gevent.getcurrent()
    ours, theirs = link()
    HandoverReceiver(new, theirs, 7)
    assert new.registry.expected == 7
    giver.give_to([ours])
    until(lambda: new.registry.expected == 0)
    busy.event_job = None
    giver.offer(busy)
    until(lambda: busy.status == "closed")


def test_what_is_asked_of_one_that_is_leaving_is_done_where_it_goes_on():
    (paused, a), (resumed, b), (closing, c), (stays, d) = connect(old, 4)
    resumed.pause_recv()
    stays.context.value = Unloadable()
    ours, theirs = link()
    giver.give_to([ours])
    taker = _socket.socket(fileno=theirs)
    taker.send(b'{"room": 100}')
    until(is_in_transit)
    b.send(b"hello\n")
    paused.pause_recv()
    resumed.resume_recv()
    closing.close("bye" * 9000, code=4000)
    stays.close("bye")
    gevent.sleep(0.03)
    assert resumed.bytes_read == 0, "it is not read while it moves"
    HandoverReceiver(new, taker.detach(), 4)
    until(lambda: not giver.is_busy)
    gevent.sleep(0.05)
    assert hear(b) == b"%d hello\n" % resumed.id
    read = b""
    while data := hear(c, 65536):
        read += data
    assert read == b"bye" * 9000 + b"\n"
    assert hear(d) == b"bye\n"
    assert hear(d) == b""
    a.send(b"hello\n")
    gevent.sleep(0.05)
    assert new.registry.connections[paused.id].bytes_read == 0
    new.registry.connections[paused.id].resume_recv()
    gevent.sleep(0.05)
    assert hear(a) == b"%d hello\n" % paused.id


def test_another_version_is_refused():
    ((connection, far),) = connect(old)
    ours, theirs = link()
    version, receiver.VERSION = receiver.VERSION, 99
    HandoverReceiver(new, theirs, 1)
    giver.give_to([ours])
    until(lambda: giver.obstacle(connection))
    receiver.VERSION = version
    assert answer(far, b"here") == b"%d here\n" % connection.id


def test_one_that_cannot_be_unpacked_stays_whole():
    pairs = connect(old, 3)
    pairs[1][0].accepted_at = 1
    ours, theirs = link()
    HandoverReceiver(new, theirs, 3)
    before = len(new.registry.connections), new.row[Column.CONNECTIONS]
    restore, Connection.restore = Connection.restore, picky
    giver.give_to([ours])
    until(lambda: not giver.is_busy and giver.obstacle(pairs[1][0]))
    Connection.restore = restore
    assert [c.status for c, _ in pairs] == ["closed", "established", "closed"]
    assert (len(new.registry.connections), new.row[Column.CONNECTIONS]) == (
        before[0] + 2,
        before[1] + 2,
    )
    assert answer(pairs[1][1], b"here") == b"%d here\n" % pairs[1][0].id


def picky(self, state, restore=Connection.restore):
    if state["accepted_at"] == 1:
        raise KeyError("what another version has left out")
    restore(self, state)


def test_a_taker_that_is_dead_before_the_second_batch():
    # The answer to the first is still to be read when the second cannot be sent any more.
    pairs = connect(old, 2)
    ours, theirs = link()
    send = Link.send

    def die(self, message, descriptors):
        send(self, message, descriptors)
        if descriptors:
            taker.recvmsg(65536, 4096)
            taker.send(b'{"refused": []}')
            taker.close()

    Link.send, sender.BATCH = die, 1
    taker = _socket.socket(fileno=theirs)
    giver.give_to([ours])
    taker.send(b'{"room": 100}')
    until(lambda: not giver.has_receiver)
    sender.BATCH, Link.send = BATCH, send
    assert [c.status for c, _ in pairs] == ["closed", "established"]


def test_a_large_batch_is_cut():
    for connection, _far in connect(old, 4):
        connection.context.value = b"x" * (1 << 20)
    sizes, send = [], Link.send

    def count(self, message, descriptors):
        sizes.append(len(message.get("sizes", ())))
        send(self, message, descriptors)

    Link.send = count
    ours, theirs = link()
    HandoverReceiver(new, theirs, 4)
    giver.give_to([ours])
    until(lambda: not giver.is_busy)
    Link.send = send
    assert max(sizes) == 1, sizes


def slow_service(first_id):
    limits = Limits(
        send_timeout=8, header_timeout=8, message_timeout=8, max_connections_per_address=9
    )
    made = ServerContext(worker, limits, board.row(board.take()), loop, itertools.count(first_id))
    made.timeouts.idle.start(False)
    return made


def test_who_is_slow_takes_his_time_along():
    here, there = slow_service(2**35), slow_service(2**36)
    (reader, _far), (writer, other) = connect(here, 2)
    reader.max_send_buffer_size = 1 << 30
    reader.send("x" * 4_000_000)
    other.send(b"beginning")
    until(lambda: writer.unfinished is not None)
    until(
        lambda: writer.id in here.timeouts.idle.messages and reader in here.timeouts.send_rate.marks
    )
    taken, since = here.timeouts.send_rate.marks[reader]
    here.timeouts.send_rate.marks[reader] = (taken, since - 5)
    here.timeouts.idle.messages[writer.id] = (
        here.timeouts.idle.messages[writer.id][0],
        time.monotonic() - 5,
    )
    near, client = _socket.socketpair()
    near.setblocking(False)
    body = Connection(here, near, None, get("http"))
    body.open()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1")
    until(lambda: body in here.timeouts.body_rate.marks)
    here.timeouts.body_rate.marks[body] = (
        here.timeouts.body_rate.marks[body][0],
        time.monotonic() - 5,
    )
    giver = HandoverSender(here, lambda: None)
    ours, theirs = link()
    HandoverReceiver(there, theirs, 3)
    giver.give_to([ours])
    until(lambda: not here.registry.connections)
    until(lambda: {one.status for one in there.registry.connections.values()} == {"established"})
    assert not here.timeouts.send_rate.marks
    assert not here.timeouts.body_rate.marks
    moved = there.registry.connections
    assert there.timeouts.send_rate.save(moved[reader.id])[0] == taken
    assert 4.9 < there.timeouts.send_rate.save(moved[reader.id])[1] < 7
    assert 4.9 < there.timeouts.body_rate.save(moved[body.id])[1] < 7
    assert 4.9 < there.timeouts.idle.save(moved[writer.id])[1] < 7
    for one in list(moved.values()):
        one.destroy()
    assert not there.timeouts.send_rate.marks
    assert not there.timeouts.body_rate.marks


def test_destroy_on_the_way_ends_it_where_it_arrives():
    ((connection, far),) = connect(old)
    ours, theirs = link()
    giver.give_to([ours])
    taker = _socket.socket(fileno=theirs)
    taker.send(b'{"room": 100}')
    until(is_in_transit)
    connection.destroy()
    closed.clear()
    HandoverReceiver(new, taker.detach(), 1)
    until(lambda: closed)
    assert hear(far) == b""
    assert closed[0] is not connection


def test_whose_room_is_gone_at_the_limit_of_descriptors():
    pairs = connect(old, 4)
    ours, theirs = link()
    receive = fd_socket.receive_message

    def cut(*arguments):
        message, descriptors = receive(*arguments)
        if message and "sizes" in message:
            for each in descriptors[3:]:
                os.close(each)
            descriptors = descriptors[:3]
        return message, descriptors

    fd_socket.receive_message = cut
    HandoverReceiver(new, theirs, 4)
    giver.give_to([ours])
    until(lambda: sum(connection.status == "closed" for connection, _ in pairs) == 2)
    until(lambda: not is_in_transit())
    assert [connection.status for connection, _ in pairs].count("established") == 2
    fd_socket.receive_message = receive


class Unloadable:
    def __reduce__(self):
        return (explode, ())


def explode():
    raise LookupError("the new code has no such class")


def test_the_epoll_set_forgets_what_has_left():
    ((connection, _far),) = connect(old)
    number = connection.fileno()

    def registered():
        lines = Path(f"/proc/self/fdinfo/{old.poller.fileno()}").read_text().splitlines()
        return {int(line.split()[1]) for line in lines if line.startswith("tfd")}

    until(lambda: number in registered())
    os.dup(number)  # as the successor has it
    ours, theirs = link()
    HandoverReceiver(new, theirs, 1)
    giver.give_to([ours])
    until(lambda: connection.status == "closed")
    assert number not in registered() or number in {
        c.fileno() for c in new.registry.connections.values()
    }


def on_the_way(*connections):
    """Have a taker that holds them, and has not answered yet; return its end."""
    ours, theirs = link()
    giver.give_to([ours])
    taker = _socket.socket(fileno=theirs)
    taker.send(b'{"room": 100}')
    until(lambda: all(each.status == "migrating" for each in connections))
    return taker


def test_what_is_sent_on_the_way_comes_in_order_and_before_what_the_successor_sends():
    ((connection, far),) = connect(old)
    worker.on_takeover = lambda moved: moved.send("taken over")
    taker = on_the_way(connection)
    for number in range(1000):
        assert connection.send(f"{number} {'x' * 500}")
    HandoverReceiver(new, taker.detach(), 1)
    while connection.id not in new.registry.connections:  # before the next message of its link
        gevent.sleep(0)
    assert new.registry.connections[connection.id].send("the successor cannot be quicker")
    read = b""
    while not (b"taken over\n" in read and b"quicker\n" in read):
        read += hear(far, 1 << 20)
    worker.on_takeover = None
    lines = read.decode().splitlines()
    assert lines[:1000] == [f"{number} {'x' * 500}" for number in range(1000)]
    # The callback of the successor has a greenlet of its own: either may be first.
    assert sorted(lines[1000:]) == ["taken over", "the successor cannot be quicker"]
    assert errors == []


def test_it_is_queued_where_it_stays_too():
    ((connection, far),) = connect(old)
    taker = on_the_way(connection)
    assert [connection.send(word) for word in ("one", "two")] == [True, True]
    assert connection.send(b"three\n", raw=True)
    taker.close()
    until(lambda: connection.status == "established")
    gevent.sleep(0.02)
    assert hear(far) == b"one\ntwo\nthree\n"


def test_no_more_is_queued_on_the_way_than_the_buffer_may_hold():
    ((connection, _far),) = connect(old)
    connection.max_send_buffer_size = 1000
    taker = on_the_way(connection)
    assert [connection.send("x" * 600) for _ in range(3)] == [True, True, False]
    until(lambda: errors)
    assert errors == [(2, "send buffer full and drop package")]
    taker.close()
    until(lambda: connection.status == "established")


def test_what_cannot_be_sent_raises_on_the_way_too():
    ((connection, _far),) = connect(old)
    taker = on_the_way(connection)
    for wrong, raw in ((5, False), ("two\nlines", False), ("text", True)):
        try:
            connection.send(wrong, raw=raw)
        except (TypeError, ValueError):
            continue
        raise AssertionError(wrong)
    taker.close()
    until(lambda: connection.status == "established")


class Numbered(get("text")):
    """A protocol whose messages depend on what was sent before: each has a number."""

    number = 0
    encoding = None

    def encode(self, message):
        self.number += 1
        return super().encode(f"{self.number} {message}")


def test_a_protocol_that_counts_goes_on_counting():
    for stays in (True, False):
        ((connection, far),) = connect(old, protocol=Numbered)
        connection.send("before")
        taker = on_the_way(connection)
        connection.send("on the way")
        connection.send(
            Unloadable()
        )  # the sender has long gone on when it turns out that this cannot be sent
        if stays:
            taker.close()
            until(lambda: connection.status == "established")
            after = connection
        else:
            HandoverReceiver(new, taker.detach(), 1)
            until(
                lambda: connection.status == "closed" and connection.id in new.registry.connections
            )
            after = new.registry.connections[connection.id]
            until(lambda: after.status == "established")
        after.send("after")
        gevent.sleep(0.02)
        words = hear(far).decode().splitlines()
        assert [word for word in words if "Unloadable" not in word][:2] == [
            "1 before",
            "2 on the way",
        ]
        assert words[-1].endswith("after")


def test_those_of_a_giver_that_dies_before_it_says_what_it_owes_arrive():
    ((connection, far),) = connect(old)
    taker = on_the_way(connection)
    middle, theirs = link()
    made = HandoverReceiver(new, theirs, 1)
    relay = _socket.socket(fileno=middle)
    relay.recv(1000)
    data, rights, _, _ = taker.recvmsg(65536, 4096)
    relay.sendmsg([data], rights)
    until(lambda: connection.id in new.registry.connections)
    far.send(b"are you there\n")
    gevent.sleep(0.03)
    assert new.registry.connections[connection.id].bytes_read == 0
    relay.close()
    assert hear(far) == b"%d are you there\n" % connection.id
    until(lambda: made not in new.receivers)
    taker.send(b'{"refused": []}')  # the giver of this process did not die
    until(lambda: connection.status == "closed")


# ---- which connections move


def stays_for(declared, protocol="text", **attributes):
    """Why a connection of the Worker `declared` does not move; it is idle, and has `attributes`."""
    owner = service(declared=declared)
    near, _far = _socket.socketpair()
    made = Connection(owner, near, None, get(protocol) if isinstance(protocol, str) else protocol)
    for name, value in attributes.items():
        setattr(made, name, value)
    why = HandoverSender(owner, lambda: None).obstacle(made)
    made.destroy()
    return why


def nothing(*_):
    """A callback."""


def test_a_connection_moves_by_the_rule():
    rule = [
        ({}, "auto", ""),
        ({"on_message": nothing, "on_websocket_connect": nothing, "on_error": nothing}, "auto", ""),
        ({"on_close": nothing}, "auto", "on_close without on_takeover"),
        ({"on_connect": nothing}, "auto", "on_connect without on_takeover"),
        (
            {"on_connect": nothing, "on_close": nothing},
            "auto",
            "on_connect and on_close without on_takeover",
        ),
        ({"on_connect": nothing, "on_close": nothing, "on_takeover": nothing}, "auto", ""),
        ({"on_connect": nothing, "on_close": nothing}, True, ""),
        ({"on_takeover": nothing}, False, "handover=False"),
    ]
    for callbacks, handover_, expected in rule:
        declared = Worker("text://127.0.0.1:1", name="w", handover=handover_, **callbacks)
        assert stays_for(declared) == expected, callbacks
        assert declared.declaration().migration_obstacle == expected
    assert Worker("text://127.0.0.1:1", name="w").handover == "auto"


def test_between_two_requests_http_moves_by_the_rule_of_auto_always():
    for handover_ in ("auto", False):
        plain = Worker("http://127.0.0.1:1", name="w", handover=handover_, on_message=nothing)
        assert stays_for(plain, protocol="http") == plain.declaration().migration_obstacle == ""
        closing = Worker("http://127.0.0.1:1", name="w", handover=handover_, on_close=nothing)
        why = "on_close without on_takeover"
        assert (
            stays_for(closing, protocol="http") == closing.declaration().migration_obstacle == why
        )
    assert (
        Worker("https://127.0.0.1:1", name="w", handover=False).declaration().migration_obstacle
        == ""
    )


def test_with_handover_false_http_moves_between_two_requests_only():
    owner = service(
        declared=Worker("http://127.0.0.1:1", name="w", handover=False, on_message=answer_later)
    )
    ((connection, far),) = connect(owner, protocol="http")
    movable = []
    for piece in (b"", b"POST / HTTP/1.1\r\nHo", b"st: x\r\nContent-Length: 2\r\n\r\n1", b"2"):
        far.send(piece)
        gevent.sleep(0.01)
        movable.append(connection.is_movable)
    assert hear(far).startswith(b"HTTP/1.1 200 OK")
    gevent.sleep(0.01)
    assert [*movable, connection.is_movable] == [True, False, False, False, True]
    connection.destroy()


def answer_later(connection, request):
    gevent.sleep(0.02)
    connection.send("done")


def test_own_callbacks_hold_a_connection_also_with_true():
    for handover_ in ("auto", True):
        declared = Worker("text://127.0.0.1:1", name="w", handover=handover_)
        assert stays_for(declared, on_message=nothing) == "own callbacks"


def test_what_a_connection_gets_while_it_waits_for_its_turn_counts():
    ((connection, _far),) = connect(old)
    ours, theirs = link()
    giver.give_to([ours])
    connection.on_message = nothing
    HandoverReceiver(new, theirs, 1)
    gevent.sleep(0.03)
    assert connection.status == "established"
    assert connection.id not in new.registry.connections


def test_a_handler_or_socketserver_class_holds_its_connections():
    def handler(connection):
        """Straight-line code."""

    declared = Worker("text://127.0.0.1:1", name="w", handler=handler, handover=True)
    assert declared.declaration().migration_obstacle == "a connection handler"
    assert declared.migration_obstacle(keeps_alive=True) == "a connection handler"


def test_a_context_or_protocol_that_cannot_be_pickled_is_named():
    pairs = connect(old, 2)
    pairs[0][0].context.partner = pairs[1][0]
    ((strange, _),) = connect(old, protocol=Unpicklable)
    ours, theirs = link()
    HandoverReceiver(new, theirs, 3)
    giver.give_to([ours])
    until(lambda: not giver.is_busy and pairs[1][0].status == "closed")
    assert giver.obstacle(pairs[0][0]) == "a context that cannot be pickled"
    assert any(
        "in a context, keep the id of another connection" in reason for reason in giver._reasons
    )
    assert giver.obstacle(strange) == "a protocol that cannot be pickled"


class Acting:
    """Does something as it is pickled, as a lazy object may."""

    def __init__(self, act):
        self.act = act

    def __reduce__(self):
        self.act()
        return str, ()


def leave_by(error):
    raise error


def test_whatever_a_context_does_as_it_is_pickled_costs_its_connection_only():
    (exits, a), (closes, b), (sends, c), (other, d) = connect(old, 4)
    exits.context.value = Acting(lambda: leave_by(SystemExit("pickled")))
    closes.context.value = Acting(lambda: closes.close("bye"))
    sends.context.value = Acting(lambda: sends.send("from the pickle"))
    ours, theirs = link()
    HandoverReceiver(new, theirs, 4)
    giver.give_to([ours])
    until(lambda: not giver.is_busy and other.status == "closed")
    assert giver.obstacle(exits) == "a context that cannot be pickled"
    assert hear(b) == b"bye\n"
    assert hear(b) == b""
    assert hear(c) == b"from the pickle\n"
    assert list(old.registry.connections.values()) == [exits]
    for connection, far in ((exits, a), (sends, c), (other, d)):
        assert answer(far, b"on") == b"%d on\n" % connection.id


def test_what_leaves_a_context_as_it_is_unpickled_costs_its_connection_only():
    (exits, a), (other, b) = connect(old, 2)
    exits.context.value = Exiting()
    ours, theirs = link()
    HandoverReceiver(new, theirs, 2)
    giver.give_to([ours])
    until(lambda: not giver.is_busy and other.status == "closed")
    assert giver.obstacle(exits) == "not unpacked by the successor"
    for connection, far in ((exits, a), (other, b)):
        assert answer(far, b"on") == b"%d on\n" % connection.id


class Exiting:
    def __reduce__(self):
        return leave_by, (SystemExit("unpickled"),)


class Unpicklable(get("text")):
    def __reduce_ex__(self, version):
        raise TypeError("not this one")


def test_a_protocol_says_itself_why_it_stays():
    class Bound(get("text")):
        migration_obstacle = "a licence for one process"

    assert (
        stays_for(Worker("text://127.0.0.1:1", name="w"), protocol=Bound)
        == "a licence for one process"
    )


def test_the_successor_follows_the_rule_too():
    ((connection, far),) = connect(old)
    strict = service(2**37, declared=Worker("text://127.0.0.1:1", name="w", on_close=closed.append))
    ours, theirs = link()
    HandoverReceiver(strict, theirs, 1)
    giver.give_to([ours])
    until(lambda: giver.obstacle(connection) == "on_close without on_takeover")
    assert not strict.registry.connections
    assert strict.row[Column.CONNECTIONS] == 0
    assert not closed
    assert answer(far, b"still") == b"%d still\n" % connection.id


class Full:
    """As RequestLimit is when the process has served as much as it may."""

    def hold(self, connection):
        connection.hold_back()


def test_what_was_read_ahead_moves_on_through_a_process_that_takes_no_more():
    full = service(2**38)
    ((connection, far),) = connect(old)
    old.takes_no_more, old.holder = True, Full()
    far.send(b"".join(b"%d\n" % number for number in range(100)))
    gevent.sleep(0.05)
    answered = hear(far, 65536)
    assert 0 < answered.count(b"\n") < 100
    full.takes_no_more, full.holder = True, Full()
    ours, theirs = link()
    HandoverReceiver(full, theirs, 1)
    giver.give_to([ours])
    until(lambda: connection.status == "closed")
    gevent.sleep(0.05)
    assert not select.select([far], [], [], 0)[0], "it has taken nothing of it"
    ours, theirs = link()
    HandoverReceiver(new, theirs, 1)
    second = HandoverSender(full, lambda: None)
    second.give_to([ours])
    while answered.count(b"\n") < 100:
        answered += hear(far, 65536)
    assert answered.splitlines() == [b"%d %d" % (connection.id, number) for number in range(100)]
    old.takes_no_more, old.holder = False, None
    second.close()


def read_ahead():
    "A connection whose process has taken no more: a part of a hundred messages is not handled."
    ((connection, far),) = connect(old)
    old.takes_no_more, old.holder = True, Full()
    far.send(b"".join(b"%d\n" % number for number in range(100)))
    gevent.sleep(0.05)
    old.takes_no_more, old.holder = False, None
    answered = hear(far, 65536)
    assert 0 < answered.count(b"\n") < 100
    return connection, far, answered


def hear_all(far, answered):
    while answered.count(b"\n") < 100:
        answered += hear(far, 65536)
    return answered.splitlines()


def test_what_was_read_ahead_goes_on_where_it_cannot_move():
    connection, far, answered = read_ahead()
    connection.context.partner = connection
    ours, theirs = link()
    HandoverReceiver(new, theirs, 1)
    giver.give_to([ours])
    lines = hear_all(far, answered)
    assert lines == [b"%d %d" % (connection.id, number) for number in range(100)]
    assert giver.obstacle(connection) == "a context that cannot be pickled"


def test_what_was_read_ahead_goes_on_when_the_successor_dies():
    connection, far, answered = read_ahead()
    ours, theirs = link()
    giver.give_to([ours])
    os.close(theirs)
    lines = hear_all(far, answered)
    assert lines == [b"%d %d" % (connection.id, number) for number in range(100)]


def with_both(test):
    """Neither process keeps a connection for the next scenario."""
    try:
        test()
    finally:
        closed.clear()
        idle.clear()
        for one in (*old.registry.connections.values(), *new.registry.connections.values()):
            one.destroy()
        gevent.sleep(0.01)
        closed.clear()
        errors.clear()


run(globals(), with_both)
