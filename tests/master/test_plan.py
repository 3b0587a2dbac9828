"""What should run: counts, what an operator has asked for, and which listener is which."""

from __future__ import annotations

import pytest
from world import declaration

from gworker.errors import ConfigError
from gworker.master.plan import MAX_PROCESSES, Plan, make_plan

TCP = "tcp://127.0.0.1:9000"


def counts(plan: Plan) -> dict[str, int]:
    return dict(plan.counts)


@pytest.mark.parametrize(
    ("declared", "workers", "expected"), [(None, None, 1), (None, 4, 4), (2, None, 2), (2, 4, 2)]
)
def test_a_worker_that_sets_a_count_has_it_and_others_what_w_says(
    declared: int | None, workers: int | None, expected: int
) -> None:
    assert counts(make_plan([declaration("a", count=declared)], workers, Plan())) == {"a": expected}


def test_places_are_in_the_order_of_the_declarations() -> None:
    plan = make_plan([declaration("b", count=2), declaration("a")], None, Plan())
    assert plan.places() == [("b", 0), ("b", 1), ("a", 0)]


def test_what_was_asked_for_holds_over_a_reload() -> None:
    before = make_plan([declaration("a", count=2)], None, Plan()).with_count("a", 5)
    assert counts(make_plan([declaration("a", count=2)], None, before)) == {"a": 5}


def test_what_was_asked_for_ends_when_the_code_changes_its_mind() -> None:
    before = make_plan([declaration("a", count=2)], None, Plan()).with_count("a", 5)
    assert counts(make_plan([declaration("a", count=3)], None, before)) == {"a": 3}


def test_what_was_asked_for_holds_where_w_gives_the_count() -> None:
    before = make_plan([declaration("a")], 4, Plan()).with_count("a", 1)
    assert counts(make_plan([declaration("a")], 4, before)) == {"a": 1}
    assert counts(make_plan([declaration("a", count=4)], 4, before)) == {"a": 1}
    assert counts(make_plan([declaration("a", count=3)], 4, before)) == {"a": 3}


def test_what_was_asked_for_gives_way_to_another_setting() -> None:
    before = make_plan([declaration("a")], 4, Plan()).with_count("a", 7)
    assert counts(make_plan([declaration("a")], 4, before)) == {"a": 7}
    assert counts(make_plan([declaration("a")], 5, before)) == {"a": 5}
    assert counts(make_plan([declaration("a")], None, before)) == {"a": 1}


def test_what_was_asked_for_another_worker_does_not_matter() -> None:
    before = make_plan([declaration("a")], None, Plan()).with_count("a", 5)
    assert counts(make_plan([declaration("b")], None, before)) == {"b": 1}


def test_two_workers_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two Workers are named 'a'"):
        make_plan([declaration("a"), declaration("a")], None, Plan())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TCP, TCP),
        (TCP, "http://127.0.0.1:9000"),
        ("unix:///tmp/x.sock", "unix:///tmp/x.sock"),
        ("udp://127.0.0.1:9000", "udp://127.0.0.1:9000"),
    ],
)
@pytest.mark.parametrize("reuse_port", [False, True])
def test_two_workers_at_one_place_are_refused_whatever_they_speak(
    one: str, other: str, reuse_port: bool
) -> None:
    pair = [
        declaration("a", listen=one, reuse_port=reuse_port),
        declaration("b", listen=other, reuse_port=reuse_port),
    ]
    with pytest.raises(ConfigError, match="Workers 'a' and 'b' both listen on"):
        make_plan(pair, None, Plan())


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        (
            "tcp://0.0.0.0:9000",
            "tcp://[::]:9000",
            r"\[::\] is every address of the machine, those of IPv4 too",
        ),
        ("http://[::]:9000", "ws://0.0.0.0:9000", r"\[::\] is every address of the machine"),
        ("http://[::]:9000", "ws://10.0.0.1:9000", r"\[::\] is every address of the machine"),
        ("udp://0.0.0.0:9000", "udp://127.0.0.1:9000", r"0\.0\.0\.0 is every IPv4 address"),
        ("tcp://localhost:9000", "tcp://[::1]:9000", r"localhost is 127\.0\.0\.1 and \[::1\]"),
        ("tcp://localhost:9000", "tcp://0.0.0.0:9000", r"0\.0\.0\.0 is every IPv4 address"),
    ],
)
def test_two_workers_of_which_one_hears_the_other_ones_peers_are_refused(
    one: str, other: str, why: str
) -> None:
    for pair in ((one, other), (other, one)):
        declared = [declaration(name, listen=url) for name, url in zip("ab", pair, strict=True)]
        with pytest.raises(ConfigError, match=f"Workers 'a' and 'b' cannot listen on .*: {why}"):
            make_plan(declared, None, Plan())
        declared = [
            declaration(name, listen=url, reuse_port=True)
            for name, url in zip("ab", pair, strict=True)
        ]
        make_plan(declared, None, Plan())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tcp://0.0.0.0:9000", "tcp://[::]:9001"),
        ("tcp://0.0.0.0:9000", "udp://[::]:9000"),
        ("tcp://0.0.0.0:0", "tcp://[::]:0"),
        ("tcp://127.0.0.1:9000", "tcp://[::1]:9000"),
        ("tcp://0.0.0.0:9000", "tcp://[::1]:9000"),
        ("tcp://127.0.0.1:9000", "tcp://127.0.0.2:9000"),
    ],
)
def test_two_workers_whose_peers_are_apart_are_fine(one: str, other: str) -> None:
    make_plan([declaration("a", listen=one), declaration("b", listen=other)], None, Plan())


def test_the_same_number_for_tcp_and_udp_is_fine() -> None:
    pair = [declaration("a", listen=TCP), declaration("b", listen="udp://127.0.0.1:9000")]
    plan = make_plan(pair, None, Plan())
    assert plan.key(("a", 0)) != plan.key(("b", 0))


def test_port_0_twice_is_two_listeners() -> None:
    pair = [
        declaration("a", listen="tcp://127.0.0.1:0", count=2),
        declaration("b", listen="tcp://127.0.0.1:0"),
    ]
    plan = make_plan(pair, None, Plan())
    assert plan.key(("a", 0)) == plan.key(("a", 1)) != plan.key(("b", 0))


def test_a_shared_listener_is_the_same_for_every_slot_and_scheme() -> None:
    one = make_plan([declaration("a", listen=TCP, count=2)], None, Plan())
    other = make_plan([declaration("renamed", listen="websocket://127.0.0.1:9000")], None, one)
    assert one.key(("a", 0)) == one.key(("a", 1)) == other.key(("renamed", 0))


def test_reuse_port_is_a_listener_for_each_slot() -> None:
    plan = make_plan([declaration("a", listen=TCP, count=3, reuse_port=True)], None, Plan())
    assert len({plan.key(place) for place in plan.places()}) == 3


def test_reuse_port_means_nothing_for_a_unix_socket() -> None:
    plan = make_plan(
        [declaration("a", listen="unix:///tmp/x.sock", count=2, reuse_port=True)], None, Plan()
    )
    assert plan.key(("a", 0)) == plan.key(("a", 1))


def test_a_worker_without_a_socket_has_no_key() -> None:
    assert make_plan([declaration("a")], None, Plan()).key(("a", 0)) is None


def test_with_count_changes_one_and_leaves_the_plan_alone() -> None:
    plan = make_plan([declaration("a"), declaration("b")], None, Plan())
    assert counts(plan.with_count("b", 3)) == {"a": 1, "b": 3}
    assert counts(plan) == {"a": 1, "b": 1}


@pytest.mark.parametrize("count", [0, -1, MAX_PROCESSES + 1])
def test_with_count_refuses_what_cannot_be(count: int) -> None:
    plan = make_plan([declaration("a")], None, Plan())
    with pytest.raises(ConfigError, match=f"a: {count} processes; expected 1 to {MAX_PROCESSES}"):
        plan.with_count("a", count)


def test_with_count_names_the_workers_that_there_are() -> None:
    plan = make_plan([declaration("a"), declaration("b")], None, Plan())
    with pytest.raises(ConfigError, match="no Worker 'c'; there are a, b"):
        plan.with_count("c", 1)


def test_the_sum_is_bounded_as_well() -> None:
    many = [declaration("a", count=MAX_PROCESSES), declaration("b")]
    with pytest.raises(ConfigError, match=f"{MAX_PROCESSES + 1} processes are declared"):
        make_plan(many, None, Plan())
    plan = make_plan([declaration("a", count=MAX_PROCESSES - 1), declaration("b")], None, Plan())
    with pytest.raises(ConfigError, match=f"{MAX_PROCESSES + 1} processes are asked for"):
        plan.with_count("b", 2)
