"""The scoreboard: rows that are zeroed, apart from each other, and shared with a forked process."""

from __future__ import annotations

import os

import pytest

from gworker.ipc.scoreboard import COUNTERS, WORDS, Column, Scoreboard


def test_every_column_fits_and_has_a_word_of_its_own() -> None:
    assert len(set(Column)) == len(Column.__members__) <= WORDS
    assert max(Column) < WORDS
    assert set(COUNTERS) <= set(Column)
    assert Column.CONNECTIONS not in COUNTERS  # what goes down is no counter


def test_rows_are_zeroed_when_taken_again() -> None:
    board = Scoreboard(1)
    number = board.take()
    board.row(number)[Column.REQUESTS] = 7
    board.give_back(number)
    assert board.take() == number
    assert list(board.row(number)) == [0] * WORDS


def test_rows_do_not_overlap() -> None:
    board = Scoreboard(3)
    numbers = [board.take() for _ in range(3)]
    assert len(set(numbers)) == 3
    for number in numbers:
        for word in range(WORDS):
            board.row(number)[word] = 100 * number + word
    for number in numbers:
        assert list(board.row(number)) == [100 * number + word for word in range(WORDS)]


def test_a_full_board_says_so_until_a_row_is_given_back() -> None:
    board = Scoreboard(2)
    first, _ = board.take(), board.take()
    with pytest.raises(OSError, match="full"):
        board.take()
    board.give_back(first)
    assert board.take() == first


def test_words_have_64_bits() -> None:
    row = Scoreboard(1).row(0)
    row[Column.BYTES_READ] = 2**64 - 1
    assert row[Column.BYTES_READ] == 2**64 - 1
    with pytest.raises(ValueError, match="invalid value"):
        row[Column.BYTES_READ] += 1


def test_a_row_is_shared_with_a_child_and_outlives_it() -> None:
    board = Scoreboard(2)
    row = board.row(board.take())
    pid = os.fork()
    if pid == 0:
        row[Column.REQUESTS] += 5
        os._exit(0)
    os.waitpid(pid, 0)
    assert row[Column.REQUESTS] == 5


def test_a_row_is_live() -> None:
    board = Scoreboard(1)
    board.row(0)[Column.BEAT] += 3
    assert board.row(0)[Column.BEAT] == 3


def test_a_private_copy_is_written_by_no_other() -> None:
    board = Scoreboard(capacity=8)
    row = board.row(board.take())
    row[Column.REQUESTS] = 3
    pid = os.fork()
    if pid == 0:
        board.make_private()
        row[Column.REQUESTS] += 4
        os._exit(0 if row[Column.REQUESTS] == 7 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert row[Column.REQUESTS] == 3
