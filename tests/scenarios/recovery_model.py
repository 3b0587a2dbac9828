"""Any order of what happens to a group: a member that is recovered has each message once, in order,
and one that has not was told."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from messaging import processes, settle, until
from scenario_process import run

from gworker import messages
from gworker.errors import BrokerDown

HISTORY = 4
CLIENTS = 3

clients = st.integers(0, CLIENTS - 1)
steps = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 2)),
    st.tuples(st.just("publish"), st.integers(1, HISTORY + 2)),
    st.tuples(st.just("join"), clients),
    st.tuples(st.just("join"), clients),
    st.tuples(st.just("leave"), clients),
    st.tuples(st.just("go"), clients),
    st.tuples(st.just("settle"), st.just(0)),
    st.tuples(st.just("break off"), st.just(0)),
    st.tuples(st.just("restore"), st.just(0)),
    st.tuples(st.just("lose"), st.integers(1, HISTORY + 2)),
)


class Session:
    """One connection that has joined once. first: the number that comes first; None: any."""

    def __init__(self, client, joined, first, gaps):
        self.client = client
        self.joined = joined
        self.first = first
        self.gaps = gaps  # so many had been told when it joined
        self.numbers = []


class World:
    def __init__(self):
        self.gaps = []
        declared = {"pattern": "kept", "mode": "recoverable", "history": HISTORY, "wrap": wrap}
        self.a, self.b = processes(2, declared, on_gap=lambda *given: self.gaps.append(given))
        self.published = []  # positions, by number
        self.seen = [None] * CLIENTS  # the last position of each client
        self.sessions = [None] * CLIENTS
        self.is_up = True

    def do(self, what, argument):
        getattr(self, "do_" + what.replace(" ", "_"))(argument)

    def do_publish(self, count):
        for _ in range(count):
            message = [len(self.published)]
            self.published.append(messages.publish("kept", message).position)

    def do_lose(self, count):
        take = self.b.broker.take
        left = [count]

        def loses(channel, payload):
            left[0] -= 1
            if not left[0]:
                self.b.broker.take = take

        if self.is_up and take.__name__ == "take":
            self.b.broker.take = loses

    def do_join(self, number):
        if self.sessions[number] is not None:
            return
        client, since = self.b.connect(), self.seen[number]
        until(lambda: client.connection.status == "established")
        try:
            joined = client.connection.join("kept", since=since)
        except BrokerDown:
            assert not self.is_up
            assert since is not None
            client.connection.destroy()
            return
        first = self.published.index(since) + 1 if joined.recovered else None
        self.sessions[number] = Session(client, joined, first, len(self.gaps))

    def read(self, number):
        session = self.sessions[number]
        for line in session.client.read().decode().splitlines():
            got = json.loads(line)
            session.numbers.append(got["message"][0])
            self.seen[number] = got["at"]

    def check(self, number):
        session = self.sessions[number]
        self.read(number)
        numbers = session.numbers
        assert numbers == sorted(set(numbers)), numbers
        if session.first is not None:
            assert len(numbers) >= session.joined.missed
            missed = range(session.first, session.first + session.joined.missed)
            assert numbers[: session.joined.missed] == list(missed)
        if len(self.gaps) == session.gaps and numbers:
            first = numbers[0] if session.first is None else session.first
            assert numbers == list(range(first, first + len(numbers))), numbers

    def do_leave(self, number):
        if self.sessions[number] is not None:
            self.sessions[number].client.connection.leave("kept")
            self.do_go(number)

    def do_go(self, number):
        if self.sessions[number] is not None:
            settle()
            self.check(number)
            self.sessions[number].client.connection.destroy()
            self.sessions[number] = None

    def do_settle(self, _):
        settle()

    def do_break_off(self, _):
        if self.is_up:
            self.is_up = False
            self.b.broker.break_off()

    def do_restore(self, _):
        if not self.is_up:
            self.is_up = True
            self.b.broker.restore()

    def end(self):
        self.do_restore(0)
        self.do_publish(HISTORY + 3)  # also those that are lost come to light
        settle()
        self.do_publish(1)
        settle()
        for number, session in enumerate(self.sessions):
            if session is not None:
                until(lambda: self.b.messages.channels.get(b"g:kept").held is None)
                self.check(number)
                assert session.numbers[-1] == len(self.published) - 1
                session.client.connection.destroy()
        assert self.a.exceptions == self.b.exceptions == 0
        for process in (self.a, self.b):
            process.messages.end()


def wrap(message, position):
    return {"at": position, "message": message}


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(steps, min_size=15, max_size=40))
def check_any_order(taken):
    world = World()
    for step in taken:
        world.do(*step)
    world.end()


def test_any_order():
    check_any_order()


if __name__ == "__main__":
    run(globals())
