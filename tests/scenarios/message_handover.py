"""Members of groups that move between two processes in one event loop, by a real handover."""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent
from messaging import MemoryServer, Process, _socket, run_in, settle, until
from scenario_process import run

from gworker import messages
from gworker.handover.link import Link
from gworker.handover.receiver import HandoverReceiver
from gworker.handover.sender import HandoverSender
from gworker.messages import delivery, frame
from gworker.messages.handover.arrival import Arrival

KEPT = {"pattern": "kept", "mode": "recoverable"}
SEEN = {"pattern": "seen", "presence": True}


class Move:
    """Two processes, and the link between them. with_receiver: the successor takes what comes."""

    def __init__(self, starts=True, **callbacks):
        server = MemoryServer()
        self.old = Process(server, KEPT, SEEN)
        self.new = Process(server, KEPT, SEEN, **callbacks)
        self.old.service.start_messaging()
        if starts:
            self.new.service.start_messaging()
        run_in(self.old)
        self.idle = []
        self.sender = HandoverSender(self.old.service, lambda: self.idle.append(1))
        self.ours, self.theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)

    def begin(self):
        HandoverReceiver(self.new.service, self.theirs.detach(), 1000)
        self.sender.give_to([self.ours.detach()])
        self.offer()

    def begin_without_receiver(self):
        """Connections are on their way until `receive`."""
        self.theirs.send(b'{"room": 100}')
        self.sender.give_to([self.ours.detach()])
        self.offer()

    def receive(self):
        HandoverReceiver(self.new.service, self.theirs.detach(), 1000)

    def offer(self):
        for each in self.old.service.registry.connections.values():
            self.sender.offer(each)

    def finish(self):
        until(lambda: self.idle and not self.sender.is_busy)
        settle()

    def here(self, client):
        """The connection where it is now."""
        number = client.connection.id
        found = self.new.service.registry.connections.get(number)
        return found or self.old.service.registry.connections[number]

    def gone(self, client):
        return client.connection.id in self.new.service.registry.connections


class HoldingLate:
    """What the senders say of connections that have parted is held back until the end."""

    def __enter__(self):
        self.held: list[Callable[[], None]] = []
        self.tell = tell = Link.tell

        def hold(link, message):
            if "late" in message or "idle" in message:
                self.held.append(lambda: tell(link, message))
            else:
                tell(link, message)

        Link.tell = hold
        return self

    def __exit__(self, *_):
        Link.tell = self.tell
        for each in self.held:
            each()


class Publishing:
    """Publishes numbered messages of all kinds, in a greenlet."""

    def __init__(self, process, ids=(), pause=0.001):
        self.sent = 0
        self.is_over = False
        self._process = process
        self._ids = ids
        self._pause = pause
        self._greenlet = gevent.spawn(self._run)

    def _run(self):
        calls = self._process.messages.calls
        while not self.is_over:
            calls.publish("room", f"room {self.sent}")
            calls.publish("kept", f"kept {self.sent}")
            calls.send_to_user("anna", f"user {self.sent}")
            calls.broadcast(f"all {self.sent}")
            for each in self._ids:
                assert calls.send(each, f"one {self.sent}")
            self.sent += 1
            gevent.sleep(self._pause)

    def end(self, *processes):
        self.is_over = True
        self._greenlet.join()
        for each in processes:
            until(each.broker._calls.empty)
        settle()


def heard(client):
    found = {}
    while lines := client.lines:  # what the kernel did not take at once follows
        for line in lines:
            word, number = line.split()
            found.setdefault(word, []).append(int(number))
    return found


def move_amid(move, publishing):
    """Move while it publishes; return the numbers that it has published."""
    until(lambda: publishing.sent > 3)
    move.begin()
    move.finish()
    until(lambda: publishing.sent > 20)
    publishing.end(move.old, move.new)
    return list(range(publishing.sent))


def expect(client, expected):
    found = heard(client)
    assert found == expected, f"{found} instead of {expected}"


def test_all_kinds_move_under_load():
    move = Move()
    clients = [move.old.connect() for _ in range(40)]
    for each in clients:
        each.connection.join("room")
        each.connection.join("kept")
        each.connection.bind("anna")
    plain = [move.old.connect() for _ in range(5)]
    ids = [clients[0].connection.client_id, clients[-1].connection.client_id]
    publishing = Publishing(move.new, ids)
    until(lambda: publishing.sent > 10)
    move.begin()
    move.finish()
    until(lambda: publishing.sent > 60)
    publishing.end(move.old, move.new)
    assert not move.old.service.registry.connections
    complete = list(range(publishing.sent))
    for each in clients:
        expected = dict.fromkeys(["room", "kept", "user", "all"], complete)
        if each in (clients[0], clients[-1]):
            expected["one"] = complete
        expect(each, expected)
    for each in plain:
        expect(each, {"all": complete})
        assert move.here(each).membership is None
    assert move.here(clients[0]).client_id == ids[0]
    assert move.here(clients[0]).groups == ["room", "kept"]
    assert move.here(clients[0]).uid == "anna"
    assert move.new.exceptions == move.old.exceptions == 0


def test_a_large_room_that_moves_in_the_middle_of_a_message():
    move = Move()
    seconds, delivery.SLICE_SECONDS = delivery.SLICE_SECONDS, 0
    ours = move.old.messages
    ours.distribution.delivery = delivery.Delivery(lambda: gevent.sleep(0.003), print)
    clients = [move.old.connect() for _ in range(600)]
    # Those that move first are sent to last: the message has not reached them by then.
    for each in reversed(clients):
        each.connection.join("room")
    publishing = Publishing(move.old, pause=0.05)
    until(lambda: publishing.sent > 3)
    move.begin()
    move.finish()
    publishing.end(move.old, move.new)
    until(lambda: move.new.service.registry.connections and not move.sender.is_busy)
    delivery.SLICE_SECONDS = seconds
    complete = list(range(publishing.sent))
    for each in clients:
        expect(each, {"room": complete, "all": complete})


def test_one_that_is_refused_loses_and_doubles_nothing():
    move = Move()
    clients = [move.old.connect() for _ in range(20)]
    for each in clients:
        each.connection.join("room")
    for each in clients[::2]:
        each.connection.context.value = Unloadable()
    publishing = Publishing(move.old)
    complete = move_amid(move, publishing)
    assert [move.gone(each) for each in clients] == [False, True] * 10
    assert all(heard(each) == {"room": complete, "all": complete} for each in clients)


class Unloadable:
    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise LookupError("its class is gone")


def test_what_happens_to_memberships_while_it_moves():
    move = Move()
    one = move.old.connect()
    move.begin_without_receiver()
    until(lambda: one.connection.status == "migrating")
    one.connection.join("room")
    one.connection.join("seen", presence={"a": 1})
    one.connection.join("moment")
    one.connection.leave("moment")
    one.connection.bind("anna")
    messages.publish("room", "room 0")
    settle()
    move.receive()
    move.finish()
    messages.publish("room", "room 1")
    messages.publish("moment", "x")
    messages.send_to_user("anna", "user 0")
    expect(one, {"room": [0, 1], "user": [0]})
    assert move.here(one).groups == ["room", "seen"]
    assert move.here(one).uid == "anna"
    (member,) = messages.members("seen")
    assert member == (move.here(one).client_id, "anna", {"a": 1})


def test_what_is_published_between_both():
    move = Move()
    one, two, three, four = clients = [move.old.connect() for _ in range(4)]
    for each in clients:
        each.connection.join("room")
        each.connection.join("other")
    four.connection.bind("ben")
    names = [each.connection.client_id for each in clients]
    with HoldingLate() as link:
        move.begin()
        until(lambda: link.held)
        messages.publish("room", "room 0", exclude=names[0])
        messages.publish("room", "room 1", exclude_users="ben")
        messages.publish_many(["room", "other"], "both 0")
        messages.close(connection=names[2])
        messages.leave("other", connection=names[1])
        messages.send(names[1], "one 0")
        settle()
        assert [each.lines for each in clients] == [[]] * 4
    move.finish()
    messages.publish("other", "other 0")
    expect(one, {"room": [1], "both": [0], "other": [0]})
    expect(two, {"room": [0, 1], "both": [0], "one": [0]})
    expect(three, {"room": [0, 1], "both": [0]})
    expect(four, {"room": [0], "both": [0], "other": [0]})
    assert three.connection.id not in move.new.service.registry.connections


def test_a_call_for_several_groups_reaches_one_that_moves_between_them_once():
    move = Move()
    one = move.old.connect()
    one.connection.join("room")
    one.connection.join("other")
    body = frame.message_body(frame.TEXT, b"both 0", {frame.CALL: "a call"})
    move.old.broker.call("publish", b"g:room", body)
    settle()
    with HoldingLate() as link:
        move.begin()
        until(lambda: link.held)
        move.old.broker.call("publish", b"g:other", body)
        settle()
    move.finish()
    expect(one, {"both": [0]})


def test_a_successor_that_is_behind_its_predecessor():
    move = Move()
    clients = [move.old.connect() for _ in range(3)]
    native = move.new.connect()
    for each in [*clients, native]:
        each.connection.join("room")
    held, take = [], move.new.broker.take
    tell = Link.tell

    def hold_before_parting(link, message):
        if "refused" in message and not held:  # what comes now comes late to the successor
            move.new.broker.take = lambda *message: held.append(message)
            messages.publish("room", "room 0")
            messages.publish("room", "room 1")
            messages.broadcast("all 0")
            gevent.spawn_later(0.05, tell, link, message)  # its predecessor has got it
            return
        tell(link, message)

    Link.tell = hold_before_parting
    move.begin()
    move.finish()
    Link.tell = tell
    assert all(each.lines == ["room 0", "room 1", "all 0"] for each in clients)
    settle()
    move.new.broker.take = take
    for each in held:
        take(*each)
    settle()
    messages.publish("room", "room 2")
    for each in clients:
        expect(each, {"room": [2]})
    expect(native, {"room": [0, 1, 2], "all": [0]})


def test_markers_that_never_come():
    gaps = []
    move = Move(on_gap=lambda groups, since, until: gaps.append((groups, since, until)))
    one, plain = move.old.connect(), move.old.connect()
    one.connection.join("room")
    mark, Arrival.mark = Arrival.mark, lambda *_: None
    begun = time.time()
    move.begin()
    until(lambda: plain.connection.status == "closed", 1)
    until(lambda: one.connection.status == "closed", 3)
    Arrival.mark = mark
    assert 1.9 < time.time() - begun < 3
    move.finish()
    until(lambda: gaps)
    ((groups, since, end),) = gaps
    assert groups == ["room"]
    assert begun <= since <= end <= time.time()
    until(lambda: messages.publish("room", "room 0").receivers)
    assert heard(one)["room"] == [0]


def test_while_the_broker_is_down():
    gaps = []
    move = Move(on_gap=lambda groups, *_: gaps.append(groups))
    one, two = move.old.connect(), move.old.connect()
    one.connection.join("room")
    one.connection.join("seen")
    one.connection.bind("anna")
    for each in (move.old, move.new):
        each.broker.break_off()
    settle()
    begun = time.monotonic()
    move.begin()
    move.finish()
    assert time.monotonic() - begun < 1
    assert move.here(one).groups == ["room", "seen"]
    assert not gaps
    move.new.broker.restore()
    run_in(move.new)
    until(lambda: messages.is_online("anna") and messages.count("seen") == 1)
    until(lambda: gaps)
    assert ["room", "seen"] in [sorted(each) for each in gaps]
    messages.publish("room", "room 0")
    expect(one, {"room": [0]})
    assert move.gone(two)


def test_a_successor_that_has_not_used_messages_yet():
    move = Move(starts=False)
    one, two = move.old.connect(), move.old.connect()
    one.connection.join("seen")
    publishing = Publishing(move.old, [one.connection.client_id])
    complete = move_amid(move, publishing)
    expect(one, {"one": complete, "all": complete})
    expect(two, {"all": complete})
    assert messages.count("seen") == 1
    assert move.new.messages.is_ready


def test_without_messages_nothing_is_asked():
    server = MemoryServer()
    move = Move()
    move.old, move.new = Process(server), Process(server)
    move.sender = HandoverSender(move.old.service, lambda: move.idle.append(1))
    one = move.old.connect()
    move.begin()
    move.finish()
    assert move.gone(one)
    assert move.old.service.used_messaging is None
    assert move.new.service.used_messaging is None


def test_a_sender_that_dies_before_it_has_said_how_far_they_were():
    gaps = []
    move = Move(on_gap=lambda groups, *_: gaps.append(groups))
    one = move.old.connect()
    one.connection.join("room")
    one.connection.bind("anna")
    with HoldingLate() as link:
        move.begin()
        until(lambda: link.held)
        link.held.clear()
        move.sender.close()
        settle()
    until(lambda: gaps == [["room"]])
    assert move.here(one).groups == ["room"]
    run_in(move.new)
    messages.publish("room", "room 0")
    messages.send_to_user("anna", "user 0")
    expect(one, {"room": [0], "user": [0]})


def test_the_old_process_hears_of_their_channels_no_longer():
    move = Move()
    one = move.old.connect()
    one.connection.join("room")
    name = one.connection.client_id
    move.begin()
    move.finish()
    until(lambda: move.old.messages.channels.get(b"g:room") is None)
    assert move.old.messages.channels.get(b"i:" + name.partition(".")[0].encode()) is None
    assert messages.publish("room", "room 0").receivers == 1
    assert messages.send(name, "one 0")
    expect(one, {"room": [0], "one": [0]})
    move.here(one).destroy()
    assert move.new.messages.channels.get(b"g:room").backlog is None
    until(lambda: move.new.messages.channels.get(b"g:room") is None)
    until(lambda: not messages.send(name, "x"))


def test_what_is_on_its_way_while_the_broker_goes_down_comes_once():
    move = Move()
    one, far = move.old.connect(), move.new.connect()
    far.connection.join("room")
    far.connection.bind("anna")
    one.connection.join("room")
    one.connection.bind("anna")
    settle()
    take, late = move.new.broker.take, []
    move.new.broker.take = lambda *message: late.append(message)
    messages.publish("room", "a")
    messages.send_to_user("anna", "b")
    messages.broadcast("c")
    assert one.lines == ["a", "b", "c"]
    # The state of each is that of its commands: what it has heard is still to be read.
    for each in (move.old, move.new):
        each.broker.state = "down"
        each.messages.on_state("down")
    move.begin()
    move.finish()
    assert move.gone(one)
    move.new.broker.take = take
    for each in late:
        take(*each)
    assert far.lines == ["a", "b", "c"]
    assert one.lines == []
    move.new.broker.state = "up"
    move.new.messages.on_state("up")
    run_in(move.new)
    channel = move.new.messages.channels.get(b"g:room")
    until(lambda: move.here(one) in channel.members)
    settle()
    messages.publish("room", "d")
    messages.send_to_user("anna", "e")
    messages.broadcast("f")
    assert one.lines == ["d", "e", "f"]
    until(lambda: channel.backlog is None)


def test_a_member_that_the_broker_has_never_heard_of_moves():
    move = Move()
    one = move.old.connect()
    for each in (move.old, move.new):
        each.broker.break_off()
    settle()
    one.connection.join("seen")
    assert one.connection.membership.inbox is None
    move.new.broker.restore()
    subscribe = move.new.broker.subscribe

    def waits(channels):
        gevent.sleep(0.01)
        subscribe(channels)

    move.new.broker.subscribe = waits
    move.begin()
    move.finish()
    assert move.gone(one)
    run_in(move.new)
    until(lambda: messages.count("seen") == 1)
    assert [each.client_id for each in messages.members("seen")] == [move.here(one).client_id]
    assert move.new.exceptions == 0


if __name__ == "__main__":
    run(globals())
