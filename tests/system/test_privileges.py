"""Becoming another user: names, numbers, groups, and loud refusals."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable

import pytest

from gworker.errors import ConfigError
from gworker.system import privileges

NOBODY = pwd.getpwnam("nobody")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
UNKNOWN = 54321
"""A uid without an entry."""


def in_child(function: Callable[[], object]) -> str:
    """What `function` returns, or raises, in a process of its own."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            text = repr(function())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.wait()
    return text


def who() -> tuple[tuple[int, int, int], tuple[int, int, int], list[int]]:
    return os.getresuid(), os.getresgid(), sorted(os.getgroups())


def become(user: str | None, group: str | None) -> Callable[[], object]:
    def child() -> object:
        os.setgroups([0, 1, 2])
        privileges.drop(user, group)
        return who()

    return child


def triple(number: int) -> tuple[int, int, int]:
    return number, number, number


def test_names_and_numbers_resolve_to_the_same() -> None:
    by_name = privileges.resolve("nobody", None)
    assert by_name == (NOBODY.pw_uid, NOBODY.pw_gid, "nobody")
    assert privileges.resolve(str(NOBODY.pw_uid), None) == by_name
    assert privileges.resolve(None, None) == (-1, -1, "")
    assert privileges.resolve(None, "0") == (-1, 0, "")


@pytest.mark.parametrize(("user", "group"), [("no-such-user", None), (None, "no-such-group")])
def test_names_that_do_not_exist(user: str | None, group: str | None) -> None:
    with pytest.raises(ConfigError, match="'no-such-(user|group)' does not exist"):
        privileges.resolve(user, group)


def test_the_number_that_changes_nothing_is_no_id() -> None:
    """setresuid(2): -1 leaves an id as it is."""
    for user, group in ((str(2**32 - 1), None), (None, str(2**32 - 1))):
        with pytest.raises(ConfigError, match="does not exist"):
            privileges.resolve(user, group)


@as_root
@pytest.mark.parametrize("user", ["nobody", str(NOBODY.pw_uid)])
def test_user_means_all_its_ids_and_none_of_roots_groups(user: str) -> None:
    gid = NOBODY.pw_gid
    assert in_child(become(user, None)) == repr((triple(NOBODY.pw_uid), triple(gid), [gid]))


@as_root
def test_group_alone_keeps_the_user_and_drops_the_others() -> None:
    assert in_child(become(None, "7")) == repr((triple(0), triple(7), [7]))


@as_root
def test_user_and_group() -> None:
    assert in_child(become("nobody", "7")) == repr((triple(NOBODY.pw_uid), triple(7), [7]))


@as_root
def test_a_number_without_an_entry_needs_a_group() -> None:
    with pytest.raises(ConfigError, match="not in the user database: say its group"):
        privileges.check(str(UNKNOWN), None)
    assert "not in the user database" in in_child(become(str(UNKNOWN), None))
    assert in_child(become(str(UNKNOWN), "7")) == repr((triple(UNKNOWN), triple(7), [7]))


@as_root
def test_there_is_no_way_back() -> None:
    def child() -> object:
        privileges.drop("nobody", None)
        os.setuid(0)
        return "root again"

    assert in_child(child).startswith("PermissionError")


@as_root
def test_home_is_the_users() -> None:
    def child() -> object:
        os.environ["HOME"] = "/root"
        privileges.drop("nobody", None)
        return os.environ["HOME"]

    assert in_child(child) == repr(NOBODY.pw_dir)


def test_nothing_asked_nothing_changed() -> None:
    assert in_child(lambda: privileges.drop(None, None) or who()) == repr(who())


def as_nobody(user: str | None, group: str | None) -> str:
    def child() -> object:
        os.setgroups([7])
        os.setgid(NOBODY.pw_gid)
        os.setuid(NOBODY.pw_uid)
        privileges.check(user, group)
        privileges.drop(user, group)
        return who()

    return in_child(child)


@as_root
@pytest.mark.parametrize("user", ["root", "0", str(UNKNOWN)])
def test_only_root_can_change_the_user(user: str) -> None:
    assert (
        as_nobody(user, None)
        == f"ConfigError: cannot run as user {user!r}: only root can change the user"
    )


@as_root
@pytest.mark.parametrize("group", ["0", "7"])
def test_only_root_can_change_the_group_even_to_a_supplementary_one(group: str) -> None:
    assert (
        as_nobody(None, group)
        == f"ConfigError: cannot run as group {group!r}: only root can change the group"
    )


@as_root
def test_to_stay_the_same_user_needs_no_root() -> None:
    expected = repr((triple(NOBODY.pw_uid), triple(NOBODY.pw_gid), [7]))
    assert as_nobody("nobody", str(NOBODY.pw_gid)) == expected
    assert as_nobody("nobody", None) == expected
