"""Any sequence of operations does what the model says, over every broker.

Where time is invented it goes by; elsewhere nothing that is used expires while an example runs.
"""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from broker_model import Channel, Member, Model
from broker_process import Process
from broker_servers import Server
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from gworker.errors import BrokerError

MODES = {b"g:f": b"fleeting", b"g:r": b"recoverable", b"g:s": b"recoverable", b"g:l": b"latest"}
FOREIGN = b"0" * 8

channels = st.sampled_from(sorted(MODES))
rooms = st.sampled_from([b"g:r", b"g:p", b"u:1"])
members = st.sampled_from([b"m1", b"m2", b"m3"])
identities = st.sampled_from([b"ann", b"bob"])
names = st.integers(0, 2)  # processes: two that have a broker, and one that has none
data = st.sampled_from([b"d:a", b"d:ab", b"d:b*"])
texts = st.sampled_from([b"1", b"2", b'"a"', b"", b"{}"])
seconds = st.sampled_from([0, 1, 5, 400])


class Brokers(RuleBasedStateMachine):
    """Two processes at one server, against one model."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server
        self.has_clock = server.advance is not None
        self.token = secrets.token_hex(6).encode()
        self.model = Model()
        self.processes = [Process(server.make()) for _ in range(2)]
        self.names = [*(each.name for each in self.processes), b"p" + self.token]
        for process in self.processes:
            self.model.leases[process.name] = float("inf")
        self.subscribed: dict[bytes, set[int]] = {}
        self.expected: list[dict[bytes, list[bytes]]] = [{}, {}]  # payloads, by process
        note(f"token {self.token!r}")

    def call(self, operation: str, channel: bytes, *arguments: bytes | int) -> Any:
        """By one process and the other in turn."""
        self.processes.reverse()
        return self.processes[0].call(operation, channel, *arguments)

    def named(self, channel: bytes) -> bytes:
        """The channel of this example."""
        return channel[:2] + self.token + channel[2:]

    def lasting(self, seconds: int) -> int:
        """A time to live as the clock allows."""
        return seconds if self.has_clock or not seconds else 400

    def history_of(self, channel: bytes) -> Channel:
        return self.model.channels.setdefault(channel, Channel(MODES[channel]))

    # -- messages

    @rule(channel=channels, index=st.integers(0, 1))
    def subscribe(self, channel: bytes, index: int) -> None:
        process = next(each for each in self.processes if each.name == self.names[index])
        process.subscribe(self.named(channel))
        self.subscribed.setdefault(channel, set()).add(index)

    def goes_out(self, channel: bytes, payload: bytes) -> int:
        subscribed = self.subscribed.get(channel, set())
        for index in subscribed:
            self.expected[index].setdefault(channel, []).append(payload)
        return len(subscribed)

    @rule(channel=channels, body=texts)
    def publish(self, channel: bytes, body: bytes) -> None:
        receivers = self.call("publish", self.named(channel), body)
        assert receivers == self.goes_out(channel, b"\0" + body)

    @rule(
        channel=channels,
        size=st.integers(1, 4),
        ttl=seconds,
        idempotency_key=st.sampled_from([b"", b"", b"once"]),
        value_key=st.sampled_from([b"", b"a", b"b"]),
        body=texts,
    )
    def keep(
        self,
        channel: bytes,
        size: int,
        ttl: int,
        idempotency_key: bytes,
        value_key: bytes,
        body: bytes,
    ) -> None:
        ttl = self.lasting(ttl)
        history = self.history_of(channel)
        receivers, epoch, offset, duplicate = self.call(
            "keep",
            self.named(channel),
            history.mode,
            size,
            ttl * 1000,
            idempotency_key,
            value_key,
            body,
        )
        first = self.model.duplicate_of(channel, idempotency_key)
        if first is not None:
            assert (receivers, (epoch, offset), duplicate) == (0, first, 1)
            return
        if history.mode == b"fleeting":
            assert (epoch, offset) == (b"", 0)
            payload = b"\0" + body
        else:
            history.epoch = history.epoch or epoch
            assert epoch == history.epoch
            assert offset == self.model.append(history, size, ttl, value_key, body)
            payload = b"\1" + epoch + offset.to_bytes(8, "big") + body
        assert receivers == self.goes_out(channel, payload)
        assert duplicate == 0
        self.model.published[channel, idempotency_key] = self.model.now, epoch, offset

    @rule(channel=channels)
    def position(self, channel: bytes) -> None:
        history = self.history_of(channel)
        epoch, offset = self.call("position", self.named(channel))
        history.epoch = history.epoch or epoch
        assert (epoch, offset) == (history.epoch, history.top)

    @rule(
        channel=st.sampled_from([each for each in sorted(MODES) if each != b"g:f"]),
        whose=st.sampled_from(["own", "own", "none", "foreign"]),
        offset=st.integers(0, 9),
        limit=st.integers(0, 4),
        is_reverse=st.booleans(),
    )
    def history(
        self, channel: bytes, whose: str, offset: int, limit: int, is_reverse: bool
    ) -> None:
        history = self.history_of(channel)
        asked = {"own": history.epoch, "none": b"", "foreign": FOREIGN}[whose]
        epoch, top, complete, entries = self.call(
            "history", self.named(channel), history.mode, asked, offset, limit, is_reverse
        )
        assert (epoch, top) == (history.epoch, history.top)
        if asked and (asked != history.epoch or offset > top + is_reverse):
            assert (complete, entries) == (0, [])
            return
        after = offset if asked and not is_reverse else 0
        before = offset if asked and is_reverse else top + 1
        expected, is_whole, was_whole = self.model.history(history, after, before, limit)
        if is_reverse:
            expected.reverse()
        assert entries == (expected[:limit] if limit else expected)
        if history.mode == b"recoverable" or not complete:
            # A value that was dropped may be there again; then a broker need not know that.
            assert complete == is_whole or (history.mode == b"latest" and not was_whole)
        else:
            assert is_whole

    @rule(channel=channels, is_current=st.booleans())
    def rotate(self, channel: bytes, is_current: bool) -> None:
        history = self.history_of(channel)
        ended = history.epoch if is_current and history.epoch else FOREIGN
        epoch, top = self.call("rotate", self.named(channel), ended)
        assert top == history.top
        assert (epoch == history.epoch) == (bool(history.epoch) and ended == FOREIGN)
        history.epoch = epoch

    # -- presence

    @rule(
        channel=rooms,
        process=names,
        previous=st.none() | names,
        member=members,
        identity=identities,
        info=texts,
    )
    def enter(
        self,
        channel: bytes,
        process: int,
        previous: int | None,
        member: bytes,
        identity: bytes,
        info: bytes,
    ) -> None:
        before = b"" if previous is None else self.names[previous]
        leave = identity if channel[:2] == b"g:" else b""
        assert self.call(
            "enter",
            self.named(channel),
            self.names[process],
            before,
            member,
            identity,
            info,
            leave,
        ) == self.model.enter(
            Member(channel, self.names[process], member, identity, info, leave), before
        )

    @rule(channel=rooms, process=names, member=members)
    def exit(self, channel: bytes, process: int, member: bytes) -> None:
        done = self.call("exit", self.named(channel), self.names[process], member)
        assert done == self.model.exit(channel, self.names[process], member)

    @rule(channel=rooms, limit=st.integers(0, 3))
    def members(self, channel: bytes, limit: int) -> None:
        shown = self.call("members", self.named(channel), limit)
        expected = self.model.shown(channel)
        if limit:
            assert len(shown) == min(limit, len(expected))
            assert all(each in expected for each in shown)
        else:
            assert sorted(shown) == expected
        assert self.call("count", self.named(channel)) == len(expected)

    @rule(ttl=seconds)
    def renew(self, ttl: int) -> None:
        ttl = self.lasting(ttl)
        done = self.call("renew", b"", self.names[2], ttl * 1000)
        assert done == self.model.renew(self.names[2], ttl)

    @rule()
    def reap(self) -> None:
        assert self.call("reap", b"", self.names[2]) == self.model.reap(self.names[2])

    @precondition(lambda self: self.has_clock)
    @rule()
    def publish_due_leaves(self) -> None:
        self.call("publish_due_leaves", b"", b"<", b",", b">")
        for channel, texts in self.model.take_due_leaves().items():
            self.goes_out(channel, b"\0<" + b",".join(texts) + b">")

    # -- data

    @rule(key=data)
    def get(self, key: bytes) -> None:
        assert self.call("get", self.named(key)) == self.model.text(key)

    @rule(key=data, text=texts, ttl=seconds)
    def set(self, key: bytes, text: bytes, ttl: int) -> None:
        ttl = self.lasting(ttl)
        assert self.call("set", self.named(key), text, ttl * 1000) == 1
        self.model.put(key, text, ttl)

    @rule(key=data, text=texts, ttl=seconds)
    def add(self, key: bytes, text: bytes, ttl: int) -> None:
        ttl = self.lasting(ttl)
        is_new = self.model.value(key) is None
        assert self.call("add", self.named(key), text, ttl * 1000) == is_new
        if is_new:
            self.model.put(key, text, ttl)

    @rule(key=data)
    def delete(self, key: bytes) -> None:
        assert self.call("delete", self.named(key)) == self.model.delete(key)

    @rule(key=data, delta=st.integers(-5, 5))
    def increment(self, key: bytes, delta: int) -> None:
        before = self.model.text(key)
        try:
            total = int(before or b"0") if before != b"" else None
        except ValueError:
            total = None
        if total is None:
            with pytest.raises(BrokerError):
                self.call("increment", self.named(key), delta)
            return
        assert self.call("increment", self.named(key), delta) == total + delta
        self.model.change(key, b"%d" % (total + delta))

    @rule(key=data, expected=st.none() | texts, text=texts)
    def compare_and_set(self, key: bytes, expected: bytes | None, text: bytes) -> None:
        is_so = self.model.text(key) == expected
        has_expected = expected is not None
        done = self.call("compare_and_set", self.named(key), has_expected, expected or b"", text)
        assert done == is_so
        if is_so:
            self.model.change(key, text)

    @rule(key=data, ttl=seconds)
    def expire(self, key: bytes, ttl: int) -> None:
        ttl = self.lasting(ttl)
        text = self.model.text(key)
        assert self.call("expire", self.named(key), ttl * 1000) == (text is not None)
        if text is not None:
            self.model.put(key, text, ttl)

    @rule(prefix=st.sampled_from([b"d:", b"d:a", b"d:b*", b"d:b?"]))
    def keys(self, prefix: bytes) -> None:
        found: set[bytes] = set()
        cursor, is_first = b"", True
        while cursor or is_first:
            is_first = False
            cursor, page = self.call("keys", b"", self.named(prefix), cursor)
            found.update(page)
        assert found == {self.named(each) for each in self.model.keys(prefix)}

    # -- declarations

    @rule(pattern=st.sampled_from([b"a*", b"b*"]), text=texts, generation=st.integers(1, 12))
    def declare(self, pattern: bytes, text: bytes, generation: int) -> None:
        done = self.call("declare", b"", self.token + pattern, text, generation)
        assert done == self.model.declare(pattern, text, generation)
        declared = [
            [pattern.removeprefix(self.token), text]
            for pattern, text in self.call("declarations", b"")
            if pattern.startswith(self.token)
        ]
        assert declared == [[each, text] for each, (text, _) in self.model.declared.items()]

    # -- time

    @precondition(lambda self: self.has_clock)
    @rule(seconds=st.sampled_from([0.5, 2.75, 3.25, 60, 301]))  # their sums are exact
    def go_by(self, seconds: float) -> None:
        self.server.wait(seconds)
        self.model.go_by(seconds)

    def teardown(self) -> None:
        try:
            for index, expected in enumerate(self.expected):
                process = next(p for p in self.processes if p.name == self.names[index])
                for channel, payloads in expected.items():
                    named = self.named(channel)
                    process.wait_for_payloads(named, len(payloads))
                    assert process.payloads(named) == payloads
        finally:
            for process in self.processes:
                process.broker.close()


@pytest.mark.timeout(180)
def test_any_sequence_of_operations(server: Server) -> None:
    has_clock = server.advance is not None
    run_state_machine_as_test(
        lambda: Brokers(server),
        settings=settings(
            max_examples=150 if has_clock else 40,
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
