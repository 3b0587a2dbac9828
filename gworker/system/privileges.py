"""Users and groups: dropping privileges in a child, and refusing early if that is impossible."""

from __future__ import annotations

import grp
import os
import pwd
import re

from gworker.errors import ConfigError


def resolve(user: str | None, group: str | None) -> tuple[int, int, str]:
    """(uid, gid, user name) of `user` and `group`, each a name or a number; -1 and "" for None.

    Raises ConfigError for names that do not exist.
    """
    uid, gid, name = (-1, -1, "") if user is None else _user(user)
    return uid, gid if group is None else _group(group), name


def _user(user: str) -> tuple[int, int, str]:
    try:
        entry = pwd.getpwuid(int(user)) if _is_id(user) else pwd.getpwnam(user)
    except (KeyError, ValueError):  # ValueError: a name with a zero byte
        if _is_id(user):
            return int(user), -1, ""  # `drop` wants a group then
        raise ConfigError(f"user {user!r} does not exist") from None
    return entry.pw_uid, entry.pw_gid, entry.pw_name


def _group(group: str) -> int:
    try:
        return int(group) if _is_id(group) else grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        raise ConfigError(f"group {group!r} does not exist") from None


def _is_id(text: str) -> bool:
    # 2**32 - 1 means "leave it as it is" (setresuid(2)): nothing would be dropped.
    return bool(re.fullmatch(r"[0-9]{1,10}", text)) and int(text) < 2**32 - 1


def check(user: str | None, group: str | None) -> None:
    """Raise ConfigError if this process may not become `user` and `group`."""
    uid, gid, _ = resolve(user, group)
    if os.geteuid() == 0:
        if uid > 0 and gid == -1:
            # It would keep root's groups.
            raise ConfigError(
                f"user {user!r} is not in the user database: say its group with --group as well"
            )
        return
    if uid not in (-1, os.geteuid()):
        raise ConfigError(f"cannot run as user {user!r}: only root can change the user")
    if gid not in (-1, *os.getresgid()):  # setgid(2): a supplementary group is not enough
        raise ConfigError(f"cannot run as group {group!r}: only root can change the group")


def drop(user: str | None, group: str | None) -> None:
    """Become `user` and `group`, with the user's supplementary groups. Raises ConfigError if not
    permitted."""
    check(user, group)
    uid, gid, name = resolve(user, group)
    try:
        if gid != -1 and os.geteuid() == 0:
            os.setgroups(os.getgrouplist(name, gid) if name else [gid])
        if gid != -1:
            os.setgid(gid)
        if uid not in (-1, os.geteuid()) or (uid != -1 and os.getuid() != uid):
            os.setuid(uid)
    except OSError as error:
        raise ConfigError(f"cannot run as {user or ''}:{group or ''}: {error.strerror}") from None
    if uid != -1 and "HOME" in os.environ and name:
        os.environ["HOME"] = pwd.getpwnam(name).pw_dir
