"""Which users and groups a target may choose for its Workers."""

from __future__ import annotations

import os
import pwd

import pytest
from world import declaration

from gworker.config.settings import Layer, Settings, resolve
from gworker.errors import ConfigError
from gworker.master.worker_privileges import check_worker

NOBODY = pwd.getpwnam("nobody")
UNKNOWN = 54321
"""A uid without an entry."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


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
        check_worker(declaration("own", user=user, group=group), given)
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
def test_a_target_cannot_choose_its_user_if_the_settings_name_one() -> None:
    given = settings("nobody")
    assert may_be(given) == may_be(given, "nobody") == may_be(given, str(NOBODY.pw_uid)) == ""
    assert may_be(given, group=str(NOBODY.pw_gid)) == ""
    assert may_be(given, "daemon") == ANOTHER.format(kind="user")
    assert may_be(given, group="daemon") == ANOTHER.format(kind="group")
    zero = "\N{ARABIC-INDIC DIGIT ZERO}"
    assert "does not exist" in may_be(given, zero)
    for root in ("root", "0", "00"):
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
def test_without_user_a_worker_of_roots_instance_runs_as_it_says() -> None:
    given = settings(None)
    assert may_be(given) == may_be(given, "root") == may_be(given, "daemon", "nogroup") == ""
    assert may_be(given, "no-such-user") == "Worker 'own': user 'no-such-user' does not exist"
    assert may_be(given, "\0") == "Worker 'own': user '\\x00' does not exist"
    assert "say its group" in may_be(given, str(UNKNOWN))


def test_the_error_of_a_user_without_root_names_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
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
