"""Becoming another user: names, numbers, groups, and loud refusals."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable

import pytest
from world import declaration

from gworker.config.settings import Layer, Settings, resolve
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
        privileges.become(user, group)
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
        privileges.become("nobody", None)
        os.setuid(0)
        return "root again"

    assert in_child(child).startswith("PermissionError")


@as_root
def test_home_is_the_users() -> None:
    def child() -> object:
        os.environ["HOME"] = "/root"
        privileges.become("nobody", None)
        return os.environ["HOME"]

    assert in_child(child) == repr(NOBODY.pw_dir)


def test_nothing_asked_nothing_changed() -> None:
    assert in_child(lambda: privileges.become(None, None) or who()) == repr(who())


def as_nobody(user: str | None, group: str | None) -> str:
    def child() -> object:
        os.setgroups([7])
        os.setgid(NOBODY.pw_gid)
        os.setuid(NOBODY.pw_uid)
        privileges.check(user, group)
        privileges.become(user, group)
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
def test_to_stay_who_one_is_needs_no_root() -> None:
    expected = repr((triple(NOBODY.pw_uid), triple(NOBODY.pw_gid), [7]))
    assert as_nobody("nobody", str(NOBODY.pw_gid)) == expected
    assert as_nobody("nobody", None) == expected


# ---- what a Worker may be


def settings(user: str | None, group: str | None = None, **given: dict[str, str]) -> Settings:
    """With what the table [worker.NAME] of a file gives single Workers."""
    return resolve(
        "app",
        Layer("file", {"of_workers": given}),
        Layer("command line", {"user": user, "group": group}),
    )


def may_be(given: Settings, user: str | None = None, group: str | None = None) -> str:
    """Why a Worker "own" may not be that; empty: it may."""
    try:
        privileges.check_worker(declaration("own", user=user, group=group), given)
    except ConfigError as error:
        return str(error)
    return ""


ANOTHER = (
    "Worker 'own': {kind} 'daemon': with --user set, only the settings can give a Worker another "
    "{kind}:"
    ' {kind} = "daemon" in the table [worker.own] of the file'
)
NEVER_ROOT = "Worker 'own': {kind} {name!r}: with --user set, no Worker runs as root"
DAEMON = pwd.getpwnam("daemon")


@as_root
def test_a_target_cannot_choose_who_runs_it_if_the_settings_say_who() -> None:
    given = settings("nobody")
    assert may_be(given) == may_be(given, "nobody") == may_be(given, str(NOBODY.pw_uid)) == ""
    assert may_be(given, group=str(NOBODY.pw_gid)) == ""
    assert may_be(given, "daemon") == ANOTHER.format(kind="user")
    assert may_be(given, group="daemon") == ANOTHER.format(kind="group")
    for root in ("root", "0", "00", "\N{ARABIC-INDIC DIGIT ZERO}"):
        assert may_be(given, root) == NEVER_ROOT.format(kind="user", name=root)
    assert may_be(given, group="root") == NEVER_ROOT.format(kind="group", name="root")


@as_root
def test_the_file_can_give_a_worker_another_user_but_not_root() -> None:
    given = settings("nobody", own={"user": "daemon"}, other={"user": "root"})
    assert (
        may_be(given, "daemon")
        == may_be(given, str(DAEMON.pw_uid))
        == may_be(given, "daemon", "daemon")
        == ""
    )
    assert may_be(given, "bin", "bin") != ""
    assert may_be(settings("nobody", own={"group": "daemon"}), group="daemon") == ""
    assert may_be(settings("nobody", other={"user": "daemon"}), "daemon") == ANOTHER.format(
        kind="user"
    )
    for table in ({"user": "root"}, {"group": "root"}, {"user": "root", "group": "root"}):
        given = settings("nobody", own=table)
        assert may_be(given, "root") == NEVER_ROOT.format(kind="user", name="root")
        assert may_be(given, group="root") == NEVER_ROOT.format(kind="group", name="root")


@as_root
def test_the_instance_group_is_what_a_worker_may_have() -> None:
    given = settings("nobody", "daemon")
    assert may_be(given, group="daemon") == ""
    assert may_be(given, group=str(NOBODY.pw_gid)) != ""


@as_root
def test_without_user_a_worker_of_roots_instance_is_whom_it_says() -> None:
    given = settings(None)
    assert may_be(given) == may_be(given, "root") == may_be(given, "daemon", "nogroup") == ""
    assert may_be(given, "no-such-user") == "Worker 'own': user 'no-such-user' does not exist"
    assert may_be(given, "\0") == "Worker 'own': user '\\x00' does not exist"
    assert "say its group" in may_be(given, str(UNKNOWN))


def test_who_is_not_root_is_told_which_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY.pw_uid)
    monkeypatch.setattr(os, "getresgid", lambda: (NOBODY.pw_gid,) * 3)
    assert may_be(settings(None)) == may_be(settings(None), "nobody", str(NOBODY.pw_gid)) == ""
    assert may_be(settings("nobody"), "nobody") == ""
    assert (
        may_be(settings(None), "root")
        == "Worker 'own': cannot run as user 'root': only root can change the user"
    )
    expected = "Worker 'own': cannot run as group 'daemon': only root can change the group"
    assert may_be(settings(None), None, "daemon") == expected
