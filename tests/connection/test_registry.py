"""Which connections are open, and how many more there may be."""

from __future__ import annotations

from typing import Any

import pytest

from gworker.app.limits import Limits
from gworker.connection.registry import Registry
from gworker.ipc.scoreboard import Column, Scoreboard

REMOTE = ("192.0.2.1", 1)


class Peer:
    is_dialled = False

    def __init__(self, number: int) -> None:
        self.id = number
        self.is_released = False

    def let_go(self) -> None:
        self.is_released = True


@pytest.fixture
def board() -> Scoreboard:
    return Scoreboard(1)


def registry(board: Scoreboard, lingering: Any = (), **limits: Any) -> Registry:
    return Registry(Limits(**limits), board.row(board.take()), lingering)


def test_ids_go_up_or_come_from_the_instance(board: Scoreboard) -> None:
    made = registry(board)
    assert [made.next_id(), made.next_id()] == [1, 2]
    row = made._row
    assert Registry(Limits(), row, [], iter([7, 9])).next_id() == 7


def test_one_that_is_registered_counts(board: Scoreboard) -> None:
    made = registry(board, max_connections_per_address=1)
    one = Peer(3)
    made.register(one, REMOTE)
    assert (made.connections[3], made.per_address.is_full(REMOTE)) == (one, True)
    assert board.row(0)[Column.CONNECTIONS] == made.clients == 1
    made.unregister(one, REMOTE)
    assert not made.connections
    assert not made.per_address.is_full(REMOTE)
    assert board.row(0)[Column.CONNECTIONS] == made.clients == 0


def test_clients_on_their_way_take_room_too(board: Scoreboard) -> None:
    made = registry(board, max_connections=5)
    made.register(Peer(1), REMOTE)
    made.handshaking.add(Peer(2))  # type: ignore[arg-type]
    made.expected = 2
    assert made.capacity_left == 1
    made.dialled[9] = Peer(9)
    assert made.capacity_left == 1, "it is no client"
    made.expected = 3
    assert made.capacity_left == 0
    assert made.capacity_reason == "max_connections (5) reached"


def test_every_descriptor_counts_where_the_system_sets_the_limit(board: Scoreboard) -> None:
    lingering = [Peer(1)]
    made = registry(board, lingering)
    made.max_sockets = 6
    made.register(Peer(2), REMOTE)
    made.dialled[3] = Peer(3)
    made.extra_descriptors = 1
    assert made.capacity_left == 2
    made.extra_descriptors = 3
    assert made.capacity_left == 0
    assert made.capacity_reason.startswith("6 sockets, as many as the limit of descriptors")


def test_all_are_those_that_were_accepted_and_dialled(board: Scoreboard) -> None:
    made = registry(board)
    accepted, made.dialled[5] = Peer(4), (dialled := Peer(5))
    made.register(accepted, REMOTE)
    assert made.all() == [accepted, dialled]


def test_a_copy_of_the_process_has_none_of_them(board: Scoreboard) -> None:
    made = registry(board)
    called: list[int] = []
    made.on_closed.append(lambda: called.append(1))
    made.notify_closed()
    assert called == [1]
    peers = [Peer(number) for number in range(3)]
    made.register(peers[0], REMOTE)
    made.dialled[1] = peers[1]
    made.handshaking.add(peers[2])  # type: ignore[arg-type]
    board.row(0)[Column.CONNECTIONS] = 50
    made.release_all()
    assert all(each.is_released for each in peers)
    assert board.row(0)[Column.CONNECTIONS] == 1, "as many as it has to take off"
    made.notify_closed()
    assert called == [1]
