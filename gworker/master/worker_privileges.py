"""Which users and groups a target may choose for its Workers, and the files that their processes
get, since they may not read them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from gworker.config.settings import Settings
from gworker.errors import ConfigError
from gworker.ipc.declaration import Declaration
from gworker.master.slots import Process
from gworker.system.privileges import check, resolve
from gworker.tls.key_files import pack


def check_worker(declared: Declaration, settings: Settings) -> None:
    """Raise ConfigError if the processes of a Worker may not run as the user and group that it
    declares.

    The declaration comes from the target. With --user that is code which is not trusted with root,
    and must not choose its user: only the settings, which are the operator's, can give a Worker
    another user or group, and never root's.
    """
    try:
        check(declared.user or settings.user, declared.group or settings.group)
        if settings.user is not None:
            _check_choice(declared, settings, settings.user)
    except ConfigError as error:
        raise ConfigError(f"Worker {declared.name!r}: {error}") from None


def _check_choice(declared: Declaration, settings: Settings, instance_user: str) -> None:
    uid, gid, _ = resolve(instance_user, settings.group)
    given = settings.of_workers.get(declared.name, {})
    given_uid, user_gid, _ = resolve(given.get("user"), None)
    _, given_gid, _ = resolve(None, given.get("group"))
    asked_uid, _, _ = resolve(declared.user or None, None)
    _, asked_gid, _ = resolve(None, declared.group or None)
    for kind, name, number, allowed in (
        ("user", declared.user, asked_uid, {uid} | ({given_uid} - {0})),
        ("group", declared.group, asked_gid, {gid} | ({user_gid, given_gid} - {0})),
    ):
        if name and number not in allowed:
            raise ConfigError(
                f"{kind} {name!r}: with --user set, no Worker runs as root"
                if number == 0
                else f"{kind} {name!r}: with --user set, only the settings can give a Worker "
                f'another {kind}: {kind} = "{name}" in the table [worker.{declared.name}] of the '
                "file"
            )


def notify_kept(process: Process, files: Sequence[str]) -> None:
    """A reload keeps `process`: it reads its certificates again; those that it may not read itself
    come with the message."""
    try:
        packed = [pack(files)] if files else []
    except OSError:  # no descriptors left: then it has to do with what it may read
        packed = []
    process.channel.send({"do": "reload"}, packed)
    for descriptor in packed:
        os.close(descriptor)
