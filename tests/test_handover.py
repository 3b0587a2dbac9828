"""Giver and taker in one event loop, and what can go wrong between them."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = r"""
import _socket, errno, os, pickle, select, sys, time
import gevent
from gevent import get_hub

from gworker.connection import Connection
from gworker.handover import Giver
from gworker.link import BATCH, Link
from gworker import handover, takeover
from gworker.takeover import Taker
from gworker.protocols import get
from gworker.scoreboard import Column, Scoreboard
from gworker.service import Limits, Service
from gworker.worker import Worker

board = Scoreboard(8)
loop = get_hub().loop
worker = Worker("text://127.0.0.1:1", name="w", handover=True)
worker.on_message = lambda connection, line: connection.send(f"{connection.id} {line}")
closed = []
worker.on_close = closed.append

def service(first_id=1, most=0):
    return Service(worker, Limits(max_connections=most), board.row(board.take()), loop, first_id)

def connect(owner, count=1):
    made = []
    for _ in range(count):
        near, far = _socket.socketpair()
        near.setblocking(False)
        connection = Connection(owner, near, None, get("text"))
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
giver = old.giver = Giver(old, lambda: idle.append(1))

def test_many_move_and_the_books_are_right():
    pairs = connect(old, 3 * BATCH + 5)
    ours, theirs = link()
    taker = Taker(new, theirs, len(pairs))
    assert new.expected == len(pairs)
    giver.give_to([ours])
    until(lambda: idle)
    assert not old.connections and len(new.connections) == len(pairs), (len(old.connections), len(new.connections))
    assert new.expected == 0
    assert old.row[Column.CONNECTIONS] == 0 and new.row[Column.CONNECTIONS] == len(pairs)
    assert old.row[Column.HANDED_OVER] == len(pairs)
    for connection, far in pairs:
        assert connection.status == "closed" and not connection.send("x")
        assert answer(far, b"a") == b"%d a\n" % connection.id
    assert not closed

def test_a_taker_that_dies_before_it_answers_has_taken_nothing():
    pairs = connect(old, 3)
    ours, theirs = link()
    giver.give_to([ours])
    taker = _socket.socket(fileno=theirs)
    taker.send(b'{"room": 100}')
    until(lambda: giver._in_transit)
    assert {connection.status for connection, _ in pairs} == {"leaving"}
    far = pairs[0][1]
    far.send(b"meanwhile\n")
    gevent.sleep(0.05)
    assert not pairs[0][0].send("refused while it leaves")
    taker.close()  # with the batch unread
    until(lambda: not giver._in_transit)
    assert hear(far) == b"%d meanwhile\n" % pairs[0][0].id
    assert len(old.connections) == 3

def test_who_is_offered_twice_moves_once():
    (connection, far), = connect(old)
    before = len(new.connections)
    ours, theirs = link()
    Taker(new, theirs, 1)
    giver.give_to([ours])
    for _ in range(5):
        giver.offer(connection)
    until(lambda: connection.status == "closed")
    gevent.sleep(0.05)
    assert len(new.connections) == before + 1
    assert answer(far, b"once") == b"%d once\n" % connection.id

def test_an_answer_of_a_taker_that_died_with_something_unread_counts():
    (one, far), = connect(old)
    ours, theirs = link()
    giver.give_to([ours])
    taker = _socket.socket(fileno=theirs)
    taker.send(b'{"room": 100}')
    until(lambda: giver._in_transit)
    taker.recvmsg(65536, 4096)  # it has taken the first batch
    (two, _), = connect(old)
    giver.offer(two)
    until(lambda: two.status == "leaving")
    taker.send(b'{"refused": []}')
    taker.close()  # and dies with the second unread
    until(lambda: not giver._in_transit)
    assert (one.status, two.status) == ("closed", "established")

def test_an_older_taker_is_let_go():
    connect(old)
    first, second = link(), link()
    giver.give_to([first[0]])
    elder = Taker(new, first[1], 1)
    until(lambda: not giver.is_busy)
    assert elder in new.takers
    giver.give_to([second[0]])
    until(lambda: elder not in new.takers)
    Taker(new, second[1], 0)

def test_who_is_refused_stays_and_is_left_alone():
    pairs = connect(old, 2)
    ours, theirs = link()
    pairs[0][0].context.value = Unloadable()
    Taker(new, theirs, 2)
    giver.give_to([ours])
    until(lambda: pairs[1][0].status == "closed")
    until(lambda: not giver._in_transit)
    kept, far = pairs[0]
    assert kept.status == "established" and not giver.takes(kept)
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
    Taker(new, theirs, 3)
    until(lambda: idle)
    assert (old.row[Column.HANDED_OVER], new.row[Column.CONNECTIONS]) == (before[0] + 3, before[1] + 3)
    assert not old.connections
    for connection, far in pairs:
        assert answer(far, b"a") == b"%d a\n" % connection.id

def test_no_more_go_than_there_is_room_for():
    pairs = connect(old, 5)
    ours, theirs = link()
    small = service(2**34, most=3)
    Taker(small, theirs, 5)
    assert small.expected == 3
    giver.give_to([ours])
    until(lambda: len(small.connections) == 3 and not giver.is_busy)
    assert small.expected == 0
    stay = [connection for connection, _ in pairs if connection.status == "established"]
    assert len(stay) == 2 and not any(giver.takes(connection) for connection in stay)

def test_several_takers_share():
    third = service(2**33)
    before = len(new.connections)
    pairs = connect(old, 4 * BATCH)
    links = [link(), link()]
    Taker(new, links[0][1], 200)
    Taker(third, links[1][1], 200)
    giver.give_to([ours for ours, _ in links])
    until(lambda: all(connection.status == "closed" for connection, _ in pairs))
    assert len(third.connections) >= BATCH and len(new.connections) - before >= BATCH

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
    Taker(new, theirs, 2)
    giver.give_to([ours])
    until(lambda: all(connection.status == "closed" for connection, _ in pairs))
    assert len(refused) == 3
    Link.send = send

def test_an_id_that_is_in_use_is_refused():
    (connection, far), = connect(old)
    (other, _), = connect(new)
    del old.connections[connection.id]
    connection.id = other.id
    old.connections[connection.id] = connection
    ours, theirs = link()
    Taker(new, theirs, 1)
    giver.give_to([ours])
    until(lambda: connection.id in giver._stays)
    assert connection.status == "established"

def test_who_is_late_for_a_room_is_refused_at_arrival():
    pairs = connect(old, 3)
    ours, theirs = link()
    small = service(2**35, most=3)
    Taker(small, theirs, 3)
    newcomers = connect(small, 2)  # that the acceptor would not have taken
    giver.give_to([ours])
    until(lambda: not giver.is_busy and len(small.connections) == 3)
    assert [c.status for c, _ in pairs].count("established") == 2 == len(newcomers)

def test_room_is_not_kept_for_who_does_not_come():
    (busy, _), = connect(old)
    busy._job = gevent.getcurrent()
    ours, theirs = link()
    Taker(new, theirs, 7)
    assert new.expected == 7
    giver.give_to([ours])
    until(lambda: new.expected == 0)
    busy._job = None
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
    until(lambda: giver._in_transit)
    b.send(b"hello\n")
    paused.pause_recv()
    resumed.resume_recv()
    closing.close("bye" * 9000, code=4000)
    stays.close("bye")
    gevent.sleep(0.03)
    assert resumed.bytes_read == 0, "nobody reads while it moves"
    Taker(new, taker.detach(), 4)
    until(lambda: not giver.is_busy)
    gevent.sleep(0.05)
    assert hear(b) == b"%d hello\n" % resumed.id
    read = b""
    while data := hear(c, 65536):
        read += data
    assert read == b"bye" * 9000 + b"\n"
    assert hear(d) == b"bye\n" and hear(d) == b""
    a.send(b"hello\n")
    gevent.sleep(0.05)
    assert new.connections[paused.id].bytes_read == 0
    new.connections[paused.id].resume_recv()
    gevent.sleep(0.05)
    assert hear(a) == b"%d hello\n" % paused.id

def test_another_version_is_refused():
    (connection, far), = connect(old)
    ours, theirs = link()
    version, takeover.VERSION = takeover.VERSION, 99
    Taker(new, theirs, 1)
    giver.give_to([ours])
    until(lambda: connection.id in giver._stays)
    takeover.VERSION = version
    assert answer(far, b"here") == b"%d here\n" % connection.id

def test_one_that_cannot_be_unpacked_stays_whole():
    pairs = connect(old, 3)
    pairs[1][0].accepted_at = None
    ours, theirs = link()
    Taker(new, theirs, 3)
    before = len(new.connections), new.row[Column.CONNECTIONS]
    unpack, Connection.unpack = Connection.unpack, picky
    giver.give_to([ours])
    until(lambda: not giver.is_busy and pairs[1][0].id in giver._stays)
    Connection.unpack = unpack
    assert [c.status for c, _ in pairs] == ["closed", "established", "closed"]
    assert (len(new.connections), new.row[Column.CONNECTIONS]) == (before[0] + 2, before[1] + 2)
    assert answer(pairs[1][1], b"here") == b"%d here\n" % pairs[1][0].id

def picky(self, packed, unpack=Connection.unpack):
    if packed["accepted_at"] is None:
        raise KeyError("what another version has left out")
    unpack(self, packed)

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
    Link.send, handover.BATCH = die, 1
    taker = _socket.socket(fileno=theirs)
    giver.give_to([ours])
    taker.send(b'{"room": 100}')
    until(lambda: not giver.has_taker)
    handover.BATCH, Link.send = BATCH, send
    assert [c.status for c, _ in pairs] == ["closed", "established"]

def test_a_large_batch_is_cut():
    for connection, far in connect(old, 4):
        connection.context.value = b"x" * (1 << 20)
    sizes, send = [], Link.send
    def count(self, message, descriptors):
        sizes.append(len(message.get("sizes", ())))
        send(self, message, descriptors)
    Link.send = count
    ours, theirs = link()
    Taker(new, theirs, 4)
    giver.give_to([ours])
    until(lambda: not giver.is_busy)
    Link.send = send
    assert max(sizes) == 1, sizes

def slow_service(first_id):
    limits = Limits(send_timeout=8, header_timeout=8, message_timeout=8, max_connections_per_address=9)
    made = Service(worker, limits, board.row(board.take()), loop, first_id)
    made.idle.start(False)
    return made

def test_who_is_slow_takes_his_time_along():
    here, there = slow_service(2**35), slow_service(2**36)
    (reader, far), (writer, other) = connect(here, 2)
    reader.max_send_buffer_size = 1 << 30
    reader.send("x" * 4_000_000)
    other.send(b"beginning")
    until(lambda: writer.unfinished is not None)
    until(lambda: writer.id in here.idle.begun and reader in here.sending.marks)
    taken, since = here.sending.marks[reader]
    here.sending.marks[reader] = (taken, since - 5)
    here.idle.begun[writer.id] = (here.idle.begun[writer.id][0], time.monotonic() - 5)
    near, client = _socket.socketpair()
    near.setblocking(False)
    body = Connection(here, near, None, get("http"))
    body.open()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1")
    until(lambda: body in here.bodies.marks)
    here.bodies.marks[body] = (here.bodies.marks[body][0], time.monotonic() - 5)
    giver = here.giver = Giver(here, lambda: None)
    ours, theirs = link()
    Taker(there, theirs, 3)
    giver.give_to([ours])
    until(lambda: not here.connections)
    assert not here.sending.marks and not here.bodies.marks
    moved = there.connections
    assert there.sending.behind(moved[reader.id])[0] == taken
    assert 4.9 < there.sending.behind(moved[reader.id])[1] < 7
    assert 4.9 < there.bodies.behind(moved[body.id])[1] < 7
    assert 4.9 < there.idle.since(writer.id) < 7
    for one in list(moved.values()):
        one.destroy()
    assert not there.sending.marks and not there.bodies.marks

def test_destroy_on_the_way_ends_it_where_it_arrives():
    (connection, far), = connect(old)
    ours, theirs = link()
    giver.give_to([ours])
    taker = _socket.socket(fileno=theirs)
    taker.send(b'{"room": 100}')
    until(lambda: giver._in_transit)
    connection.destroy()
    closed.clear()
    Taker(new, taker.detach(), 1)
    until(lambda: closed)
    assert hear(far) == b"" and closed[0] is not connection

def test_whose_room_is_gone_at_the_limit_of_descriptors():
    pairs = connect(old, 4)
    ours, theirs = link()
    receive = Link.receive
    def cut(self):
        message, descriptors = receive(self)
        if message and "sizes" in message:
            for each in descriptors[3:]:
                os.close(each)
            descriptors = descriptors[:3]
        return message, descriptors
    Link.receive = cut
    Taker(new, theirs, 4)
    giver.give_to([ours])
    until(lambda: sum(connection.status == "closed" for connection, _ in pairs) == 2)
    until(lambda: not giver._in_transit)
    assert [connection.status for connection, _ in pairs].count("established") == 2
    Link.receive = receive

class Unloadable:
    def __reduce__(self):
        return (explode, ())

def explode():
    raise LookupError("the new code has no such class")

def test_the_epoll_set_forgets_what_has_left():
    (connection, far), = connect(old)
    number = connection._socket.fileno()
    def registered():
        lines = open(f"/proc/self/fdinfo/{loop.fileno()}").read().splitlines()
        return {int(line.split()[1]) for line in lines if line.startswith("tfd")}
    until(lambda: number in registered())
    keep = os.dup(number)  # as the successor has it
    ours, theirs = link()
    Taker(new, theirs, 1)
    giver.give_to([ours])
    until(lambda: connection.status == "closed")
    assert number not in registered() or number in {c._socket.fileno() for c in new.connections.values()}

for name, test in list(globals().items()):
    if name.startswith("test_"):
        test()
        closed.clear()
        idle.clear()
        for one in (*old.connections.values(), *new.connections.values()):
            one.destroy()
        gevent.sleep(0.01)
        closed.clear()
        print(name)
"""

NAMES = [line[4:].partition("(")[0] for line in PROGRAM.splitlines() if line.startswith("def test_")]


@pytest.fixture(scope="module")
def passed() -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", NAMES)
def test_scenario(passed: subprocess.CompletedProcess[str], name: str) -> None:
    assert name in passed.stdout.split(), passed.stderr[-3000:]
