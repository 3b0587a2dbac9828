"""The account of processes: states, which process fills a slot, when to try again, and totals that
never go back."""

from __future__ import annotations

from itertools import count, pairwise, product
from typing import cast

import pytest

from gworker.config.settings import Settings
from gworker.ipc.channel import Channel
from gworker.ipc.scoreboard import COUNTERS, Column, Scoreboard
from gworker.master.slots import (
    BACKOFF_FIRST,
    BACKOFF_MOST,
    PROVEN_SECONDS,
    TRANSITIONS,
    Process,
    Role,
    Slot,
    State,
    backoff,
)

pids = count(100)
scoreboard = Scoreboard(256)


def process(generation: int = 1, role: Role = Role.WORKER) -> Process:
    row = scoreboard.take()
    return Process(
        next(pids), role, "web", 0, generation, cast(Settings, None), 0.0, cast(Channel, None),
        row, scoreboard.row(row),
    )  # fmt: skip


@pytest.mark.parametrize(("before", "after"), list(product(State, State)))
def test_state_moves_as_the_table_says(before: State, after: State) -> None:
    one = process()
    one.state = before
    if after in TRANSITIONS[before]:
        one.to(after, 5.0)
        assert (one.state, one.deadline) == (after, 5.0)
    else:
        with pytest.raises(
            ValueError, match=f"web#0 .* cannot go from {before.value} to {after.value}"
        ):
            one.to(after, 5.0)
        assert one.state is before


def test_every_state_has_a_row_and_killed_is_the_end() -> None:
    assert set(TRANSITIONS) == set(State)
    assert not TRANSITIONS[State.KILLED]
    assert all(State.BOOTING not in after for after in TRANSITIONS.values())


def test_a_probe_is_known_by_its_role_not_by_its_name() -> None:
    one, named_like_it = process(role=Role.PROBE), process()
    named_like_it.worker = "probe"
    assert one.label == "probe"
    assert named_like_it.label == "probe#0"


def test_an_empty_slot_is_due_at_once() -> None:
    slot = Slot("web", 3)
    assert slot.label == "web#3"
    assert slot.is_due(0.0)
    assert slot.processes() == []


def test_the_first_process_is_current_and_the_next_its_successor() -> None:
    slot, first, second = Slot("web", 0), process(), process(2)
    slot.add(first)
    assert (slot.current, slot.successor) == (first, None)
    assert not slot.is_due(1e9)
    slot.add(second)
    assert (slot.current, slot.successor) == (first, second)
    assert slot.processes() == [first, second]


def test_a_first_process_that_is_ready_replaces_none() -> None:
    slot, first = Slot("web", 0), process()
    slot.add(first)
    assert slot.promote(first, 7.0) is None
    assert first.ready_at == 7.0
    assert slot.current is first


def test_a_ready_successor_takes_over() -> None:
    slot, first, second = Slot("web", 0), process(), process(2)
    slot.add(first)
    slot.promote(first, 1.0)
    slot.wants_successor = True
    slot.add(second)
    assert slot.promote(second, 2.0) is first
    assert (slot.current, slot.successor, slot.leaving) == (second, None, [first])
    assert not slot.wants_successor
    assert slot.processes() == [second, first]


def test_a_current_process_that_is_ready_after_its_successor_was_started_stays() -> None:
    slot, first, second = Slot("web", 0), process(), process(2)
    slot.add(first)
    slot.add(second)
    assert slot.promote(first, 1.0) is None
    assert (slot.current, slot.successor) == (first, second)


def test_a_slot_that_wants_a_successor_is_due_until_it_boots() -> None:
    slot, first = Slot("web", 0), process()
    slot.add(first)
    slot.wants_successor = True
    assert slot.is_due(0.0)
    slot.add(process())
    assert not slot.is_due(0.0)


def test_the_successor_inherits_the_place_of_a_dead_current() -> None:
    slot, first, second = Slot("web", 0), process(), process(2)
    slot.add(first)
    slot.add(second)
    slot.remove(first)
    assert (slot.current, slot.successor) == (second, None)
    assert slot.promote(second, 1.0) is None


def test_a_dead_successor_leaves_the_current_alone() -> None:
    slot, first, second = Slot("web", 0), process(), process(2)
    slot.add(first)
    slot.add(second)
    slot.remove(second)
    assert (slot.current, slot.successor) == (first, None)


def test_one_that_was_leaving_is_removed_from_there() -> None:
    slot, first, second = Slot("web", 0), process(), process(2)
    slot.add(first)
    slot.add(second)
    slot.promote(second, 1.0)
    slot.remove(first)
    assert slot.processes() == [second]


def test_a_stranger_that_dies_changes_nothing_for_the_others() -> None:
    slot, ours = Slot("web", 0), process()
    slot.add(ours)
    slot.remove(process(2))
    assert slot.processes() == [ours]


def test_a_third_process_has_no_place() -> None:
    slot = Slot("web", 0)
    slot.add(process())
    slot.add(process(2))
    with pytest.raises(ValueError, match="a process and a successor already"):
        slot.add(process(3))


def test_what_follows_a_dead_process_needs_no_successor() -> None:
    slot, first, second = Slot("web", 0), process(), process(2)
    slot.add(first)
    slot.wants_successor = True
    slot.add(second)
    slot.remove(first)
    assert slot.current is second
    assert not slot.is_due(1e9)


def test_release_all_makes_all_of_them_leave_and_the_slot_usable_again() -> None:
    slot, leaving, current, successor = Slot("web", 0), process(), process(2), process(3)
    slot.add(leaving)
    slot.add(current)
    slot.promote(current, 1.0)
    slot.add(successor)
    slot.wants_successor, slot.failures, slot.retry_at = True, 4, 99.0
    assert slot.release_all() == [current, successor]
    assert (slot.current, slot.successor, slot.leaving) == (
        None,
        None,
        [leaving, current, successor],
    )
    assert slot.is_due(0.0)
    assert slot.release_all() == []
    again = process(4)
    slot.add(again)
    slot.remove(current)
    assert slot.current is again


def test_backoff_doubles_up_to_its_most_and_never_overflows() -> None:
    assert backoff(0) == 0.0
    assert backoff(1) == BACKOFF_FIRST
    delays = [backoff(failures) for failures in range(1, 2000)]
    assert all(before <= after <= BACKOFF_MOST for before, after in pairwise(delays))
    assert all(after == 2 * before for before, after in pairwise(delays[:8]))
    assert delays[-1] == BACKOFF_MOST


def test_failures_in_a_row_wait_longer_and_longer() -> None:
    slot = Slot("web", 0)
    for failures in range(1, 5):
        slot.back_off(process(), 50.0, "exited 3")
        assert slot.failures == failures
        assert slot.retry_at == 50.0 + backoff(failures)
        assert not slot.is_due(slot.retry_at - 0.001)
        assert slot.is_due(slot.retry_at)
    assert slot.reason == "exited 3"


def test_a_fork_that_was_refused_counts_as_a_failure() -> None:
    slot = Slot("web", 0)
    slot.back_off(None, 50.0, "fork: Resource temporarily unavailable")
    assert slot.retry_at == 50.0 + BACKOFF_FIRST


@pytest.mark.parametrize(("served", "failures"), [(PROVEN_SECONDS, 0), (PROVEN_SECONDS - 0.01, 4)])
def test_one_that_has_proven_itself_is_replaced_at_once(served: float, failures: int) -> None:
    slot, one = Slot("web", 0, failures=3), process()
    slot.add(one)
    slot.promote(one, 10.0)
    slot.remove(one)
    slot.back_off(one, 10.0 + served, "killed by signal 9 (SIGKILL)")
    assert slot.failures == failures
    assert slot.is_due(10.0 + served) == (failures == 0)


def test_ready_alone_proves_nothing() -> None:
    """Else a process that dies right after it was ready would be started again without end."""
    slot = Slot("web", 0)
    for _ in range(3):
        one = process()
        slot.add(one)
        slot.promote(one, 10.0)
        slot.remove(one)
        slot.back_off(one, 10.5, "exited 3")
    assert slot.failures == 3


def test_totals_keep_what_dead_processes_have_counted() -> None:
    slot = Slot("web", 0)
    for generation in (1, 2):
        one = process(generation)
        for column in Column:
            one.row[column] = 10 * generation + column
        slot.add(one)
        slot.remove(one)
    assert slot.totals == [30 + 2 * column for column in COUNTERS]


def test_figures_of_the_moment_are_no_counters() -> None:
    assert {Column.BEAT, Column.CONNECTIONS, Column.TIMERS, Column.LAG_US}.isdisjoint(COUNTERS)


def test_a_slot_of_its_own_has_totals_of_its_own() -> None:
    first, second = Slot("web", 0), Slot("web", 1)
    first.totals[0] += 1
    assert second.totals[0] == 0
