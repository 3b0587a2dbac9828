"""Members that come to groups and leave them, over several processes of one broker."""

from __future__ import annotations

from functools import partial

import gevent
from messaging import Client, MemoryServer, Process, run_in, settle, until
from scenario_process import run

from gworker import messages
from gworker.errors import BrokerDown, BrokerError
from gworker.messages.presence import presence
from gworker.messages.queries import Member

presence.ROUND_SECONDS = 0.02
presence.AGAIN_SECONDS = 0.2


class World:
    """Processes that share a broker with an invented clock. heard: of each process, what its
    on_presence was called with."""

    def __init__(self, count: int = 2) -> None:
        self.now = 1000.0
        self.server = MemoryServer(lambda: self.now)
        self.processes: list[Process] = []
        self.heard: list[list[tuple[list[Member], list[Member]]]] = []
        self.here: list[int] = []
        self.clients: list[Client] = []  # referenced here, as they would end otherwise
        for _ in range(count):
            self.start()
        run_in(self.processes[0])

    def start(self) -> Process:
        heard: list[tuple[list[Member], list[Member]]] = []

        def on_presence(group, joined, left, connections_here):
            assert group == "room"
            assert all(each.groups == ["room"] for each in connections_here)
            heard.append((joined, left))
            self.here.append(len(connections_here))

        self.heard.append(heard)
        process = Process(
            self.server, {"pattern": "room", "presence": True}, on_presence=on_presence
        )
        process.service.start_messaging()
        self.processes.append(process)
        return process

    def client(self, number: int, uid: str | None = None, shown: object = None):
        client = self.processes[number].connect()
        if uid is not None:
            client.connection.bind(uid)
        client.connection.join("room", presence=shown)
        self.clients.append(client)
        return client

    def joined(self, number: int) -> list[str]:
        return sorted(str(each.uid) for joined, _ in self.heard[number] for each in joined)

    def left(self, number: int) -> list[str]:
        return sorted(str(each.uid) for _, left in self.heard[number] for each in left)

    def pass_time(self, seconds: float) -> None:
        """And let all be told that is due then."""
        self.now += seconds
        gevent.sleep(0.15)

    def clear(self) -> None:
        gevent.sleep(0.15)
        for each in self.heard:
            each.clear()
        self.here.clear()


def test_all_members_hear_who_comes_and_who_leaves():
    world = World()
    one = world.client(0)
    until(lambda: world.heard[0])
    assert world.heard == [[([Member(one.connection.client_id, None, None)], [])], []]
    assert world.here == [1]
    two = world.client(1, "ben", {"name": "Ben"})
    name = two.connection.client_id
    ben = Member(name, "ben", {"name": "Ben"})
    until(lambda: len(world.heard[0]) == 2 and world.heard[1])
    assert world.heard[0][1:] == world.heard[1] == [([ben], [])]
    two.connection.destroy()
    assert messages.count("room") == 1, "at once"
    assert not messages.is_online("ben")
    world.pass_time(2.9)
    assert len(world.heard[0]) == 2
    world.pass_time(0.1)
    until(lambda: len(world.heard[0]) == 3)
    assert world.heard[0][2:] == [([], [ben])]
    assert len(world.heard[1]) == 1, "it has no members"
    assert all(each.exceptions == 0 for each in world.processes)


def test_many_that_come_at_once_are_told_in_one_frame():
    world = World(2)
    world.client(1, "first")
    world.clear()
    frames = world.processes[1].messages.channels.get(b"g:room").received
    for number in range(500):
        world.client(0, f"u{number}", "x" * 900)
    until(lambda: len(world.joined(1)) == 500)
    assert len(world.heard[1]) < 60
    assert world.processes[1].messages.channels.get(b"g:room").received - frames < 60
    assert world.joined(0) == world.joined(1)


def test_a_frame_has_no_more_than_a_message_may_have():
    world = World(1)
    world.client(0, "first")
    world.clear()
    process = world.processes[0]
    clients = [process.connect() for _ in range(1500)]
    jobs = [gevent.spawn(each.connection.join, "room", presence=["é" * 500]) for each in clients]
    gevent.joinall(jobs)
    until(lambda: len(world.joined(0)) == 1500)
    assert 5 < len(world.heard[0]) < 60


def test_who_is_back_within_three_seconds_has_not_left():
    world = World()
    world.client(0, "anna")
    phone = world.client(1, "ben")
    world.clear()
    for _ in range(5):
        phone.connection.destroy()
        world.pass_time(1.0)
        phone = world.client(1, "ben")
        world.pass_time(2.5)
    assert world.heard == [[], []]
    second = world.client(0, "ben")
    phone.connection.destroy()
    world.pass_time(10)
    assert world.heard == [[], []], "there is another connection of it"
    second.connection.leave("room")
    world.pass_time(3)
    assert world.left(0) == ["ben"]
    world.client(0, "ben")
    until(lambda: world.joined(0) == ["ben"])


def test_binding_changes_who_a_member_is():
    world = World()
    one = world.client(0)
    world.client(1, "watch")
    world.clear()
    one.connection.bind("anna")
    world.pass_time(3)
    assert world.joined(1) == ["anna"]
    assert world.left(1) == ["None"]
    one.connection.join("room", presence="away")
    world.clear()
    assert [each.presence for each in messages.members("room") if each.uid == "anna"] == ["away"]
    one.connection.unbind()
    world.pass_time(3)
    assert (world.joined(1), world.left(1)) == (["None"], ["anna"])


def test_a_process_that_dies():
    world = World(3)
    world.client(0, "anna")
    world.client(1, "ben")
    lost = [world.client(2, f"c{number}") for number in range(20)]
    world.client(2, "ben")
    world.clear()
    dead = world.processes[2]
    dead.broker.break_off()
    assert messages.count("room") == 2
    assert not messages.is_online("c1")
    assert messages.is_online("ben")
    world.client(0, "c7")
    world.pass_time(3)
    gone = sorted(f"c{number}" for number in range(len(lost)) if number != 7)
    assert world.left(0) == world.left(1) == gone
    assert len(world.heard[0]) == 1, "one frame"
    assert world.joined(0) == []
    dead.broker.restore()
    until(lambda: messages.count("room") == 24)
    until(lambda: world.joined(0) == gone)
    assert world.joined(2) == gone


def test_a_process_that_ends():
    world = World(3)
    world.client(0, "anna")
    world.client(1, "ben")
    leaving = world.client(2, "carl")
    world.clear()
    leaving.connection.destroy()
    world.client(2, "dora")
    world.processes[2].messages.end()
    world.pass_time(3)
    assert world.left(0) == ["carl", "dora"]
    assert world.joined(0) == ["dora"], "told with the last that the process sends"


def test_a_broker_that_is_out_of_reach_for_a_moment():
    world = World()
    one, two = world.client(0, "anna"), world.client(1, "ben")
    gone = world.client(1, "gone")
    moment = world.client(1, "moment")
    world.clear()
    there = world.processes[1]
    there.broker.break_off()
    settle()
    gone.connection.destroy()
    moment.connection.destroy()
    come = world.client(1, "carl")
    brief = world.client(1, "brief")
    brief.connection.destroy()
    world.client(1, "moment")
    world.now += 1
    there.broker.restore()
    until(lambda: messages.count("room") == 4)
    world.pass_time(3)
    assert world.joined(0) == ["carl"]
    assert world.left(0) == ["gone"]
    assert world.joined(1) == ["carl"]
    assert messages.is_online("ben")
    assert [each.is_open for each in (one, two, come)] == [True] * 3


def restart(world: World) -> None:
    """The broker ends, and another one begins."""
    for each in world.processes:
        each.broker.break_off()
    settle()
    world.server.lose_data()


def test_a_broker_that_has_lost_its_data():
    world = World(3)
    stay = [world.client(number, f"stays{number}") for number in range(3)]
    gone = world.client(1, "gone", {"why": "tired"})
    both = world.client(1, "both")
    world.client(2, "both")
    world.clear()
    restart(world)
    gone.connection.destroy()
    both.connection.destroy()
    world.client(2, "new")
    for each in world.processes:
        each.broker.restore()
    until(lambda: messages.count("room") == 5)
    world.pass_time(3)
    for number in range(3):
        assert world.joined(number) == ["new"], number
        assert world.left(number) == ["gone"]
    ((left,),) = [each[1] for each in world.heard[0] if each[1]]
    assert left.presence == {"why": "tired"}
    assert all(each.is_open for each in stay)
    world.clear()
    restart(world)
    for each in world.processes:
        each.broker.restore()
    until(lambda: messages.count("room") == 5)
    world.pass_time(10)
    assert world.heard == [[], [], []]


def test_a_broker_that_has_lost_its_data_hears_of_a_newer_generation_first():
    world = World(1)
    world.client(0, "anna")
    process = world.processes[0]
    world.clear()
    restart(world)
    newer = {"pattern": "room", "presence": True, "history": 7}
    Process(world.server, newer, generation=2).service.start_messaging()
    process.broker.restore()
    until(lambda: messages.is_online("anna") and messages.count("room") == 1)
    assert process.exceptions == 0


def test_a_leave_that_the_broker_has_lost():
    world = World()
    world.client(0, "anna")
    ben = world.client(1, "ben")
    world.clear()
    ben.connection.destroy()
    settle()
    restart(world)
    for each in world.processes:
        each.broker.restore()
    until(lambda: messages.count("room") == 1)
    world.pass_time(3)
    assert (world.left(0), world.joined(0)) == (["ben"], [])
    assert world.heard[1] == []


def test_a_start_without_a_broker():
    world = World(1)
    world.client(0, "anna")
    world.clear()
    late = Process(world.server, {"pattern": "room", "presence": True})
    started, late.broker.start = late.broker.start, refuse
    late.service.start_messaging()
    client = late.connect()
    client.connection.bind("late")
    client.connection.join("room")
    started(late.messages, 1)
    until(lambda: world.joined(0) == ["late"])
    assert messages.count("room") == 2


def refuse(listener, wait):
    raise BrokerDown("not yet")


def test_what_a_callback_raises_loses_no_event():
    world = World(1)
    heard = []

    def on_presence(group, joined, left, connections_here):
        heard.extend(each.uid for each in joined)
        gevent.sleep(0.1)
        raise gevent.Timeout(1)

    process = Process(world.server, {"pattern": "room", "presence": True}, on_presence=on_presence)
    process.service.start_messaging()
    world.processes.append(process)
    for uid in ("anna", "ben", "carla"):
        world.client(1, uid)
        gevent.sleep(0.07)
    until(lambda: heard == ["anna", "ben", "carla"])
    until(lambda: process.exceptions == 3)


class Refusing:
    """The submissions of a process to its broker, which refuses all while it is full."""

    def __init__(self, process: Process) -> None:
        self.is_full = True
        self.submit = process.broker.submit
        process.broker.submit = self

    def __call__(self, operation, channel, *arguments):
        return self if self.is_full else self.submit(operation, channel, *arguments)

    def wait(self):
        raise BrokerError("it is full")


def test_a_broker_that_refuses_for_a_moment():
    world = World()
    world.client(0, "anna")
    phone = world.client(1, "ben")
    world.clear()
    broker = Refusing(world.processes[1])
    phone.connection.destroy()
    world.client(1, "carla")
    gevent.sleep(0.1)
    assert messages.connections("ben") and not messages.is_online("carla")
    broker.is_full = False
    until(lambda: not messages.is_online("ben") and messages.is_online("carla"))
    world.pass_time(3)
    until(lambda: (world.left(0), world.joined(0)) == (["ben"], ["carla"]))
    assert messages.count("room") == 2


def test_one_that_goes_before_its_join_is_told():
    world = World(1)
    process = world.processes[0]
    client = process.connect()
    submit, subscribe = process.broker.submit, process.broker.subscribe

    def is_slow(do, *arguments):
        gevent.sleep(0.05)
        return do(*arguments)

    for slow in ("submit", "subscribe"):
        client = process.connect()
        world.clients.append(client)
        process.broker.submit, process.broker.subscribe = submit, subscribe
        setattr(process.broker, slow, partial(is_slow, getattr(process.broker, slow)))
        job = gevent.spawn(client.connection.join, "room")
        gevent.sleep(0.02)
        process.broker.submit = submit
        client.connection.destroy()
        job.get(timeout=5)
        assert messages.members("room") == [], slow


def test_a_slow_callback_holds_up_nobody():
    world = World(1)
    process = world.processes[0]
    seen, gate = [], gevent.event.Event()

    def slow(group, joined, left, connections_here):
        gate.wait()
        seen.extend(each.uid for each in joined)
        if joined[0].uid == "u1":
            raise RuntimeError("on purpose")

    process = Process(world.server, {"pattern": "room", "presence": True}, on_presence=slow)
    process.service.start_messaging()
    clients = []
    for number in range(4):
        client = process.connect()
        client.connection.bind(f"u{number}")
        client.connection.join("room")
        clients.append(client)
        gevent.sleep(0.1)
    messages.publish("room", "x")
    assert all(each.lines == ["x"] for each in clients)
    assert seen == []
    gate.set()
    until(lambda: len(seen) == 4)
    assert seen == ["u0", "u1", "u2", "u3"]
    assert process.exceptions == 1


def test_a_member_moves_to_another_process():
    world = World(3)
    world.client(0, "anna")
    old = world.client(1, "ben", "shown")
    world.clear()
    holder = world.processes[1].broker.process
    target = world.processes[2].messages.presence
    channel = world.processes[1].messages.channels.get(b"g:room")
    target.finish_moved(target.submit_moved({channel: [old.connection]}, holder))
    world.processes[1].broker.break_off()
    world.pass_time(5)
    assert messages.count("room") == 2
    assert world.heard[0] == []


def test_what_is_no_event_is_dropped():
    world = World(1)
    one = world.client(0, "anna")
    world.clear()
    broker = world.processes[0].broker
    for members in (b"[1]", b'[["a"]]', b'[["a", 5, null]]', b"{}", b"5"):
        body = b'c\0\0{"do":"presence","joined":%b,"left":[]}' % members
        broker.call("publish", b"g:room", body)
    world.clear()
    messages.publish("room", "x")
    assert one.lines == ["x"]
    assert world.heard == [[]]


if __name__ == "__main__":
    run(globals())
