"""The first steps of a child: become who it should be, patch, load the target.

This is the way from the arbiter's world into gevent's. Everything that a child imports beyond what
the arbiter has is imported here, after the fork and after `monkey.patch_all()`.
"""

from __future__ import annotations

import _socket
import gc
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import metadata
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

from setproctitle import setproctitle

from gworker.config.settings import Settings
from gworker.config.sources import is_setting
from gworker.errors import ConfigError, GworkerError, LoadError
from gworker.ipc.assignment import Assignment
from gworker.ipc.boot_stage import LOAD
from gworker.ipc.channel import Channel
from gworker.ipc.scoreboard import Row
from gworker.logs import setup
from gworker.process import code_checksum, stack_dump
from gworker.process.stack_dump import install_dump, install_early
from gworker.system import directory, fork_guard, privileges, readable
from gworker.system.tracebacks import of_target
from gworker.tls import key_files

if TYPE_CHECKING:
    from gworker.app.worker import Worker
    from gworker.process.import_tracker import Telling

log = logging.getLogger("gworker")

PATCH_EVENTS = (
    "will_patch_all",
    "will_patch_module",
    "did_patch_module",
    "did_patch_builtins",
    "did_patch_all",
)
"""gevent.events: what its plugins may be called for."""

MAX_REASON = 1000
"""Characters of what an exception says about itself that are shown as the reason."""


class Child:
    """What the arbiter's children run. Implements `children.Entry`."""

    _settings: Settings
    """Set in the child: those that the arbiter has given it. The arbiter's copy has none."""

    def __init__(self, outputs: setup.Outputs) -> None:
        self._outputs = outputs
        self._code = code_checksum.code()
        self._parts = readable.parts()

    def worker(self, assignment: Assignment, settings: Settings, row: Row, channel: Channel) -> int:
        """Serve a place until retired; return the exit code."""
        self._settings = settings
        setproctitle(f"gworker: worker [{self._settings.name}] {assignment.worker}#{assignment.id}")
        install_early(self._outputs.log)
        setup.become(f"{assignment.worker}#{assignment.id}")
        telling = self._telling(channel)
        held = key_files.read_all(assignment.files)
        assignment.ids.open()
        listeners = [_socket.socket(fileno=each) for each in assignment.listeners]
        try:
            self._prepare(channel, assignment.user, assignment.group)
            let_go = (assignment.scoreboard.make_private, assignment.ids.let_go)
            self._guard(f"{assignment.worker}#{assignment.id}", channel, *let_go)
            for listener in listeners:
                fork_guard.on_fork(listener.close)
            declared = self._find(assignment.worker, channel)
            from gworker.process.worker_process import Process

            process = Process(
                declared,
                assignment,
                self._settings,
                row,
                channel,
                self._outputs.access,
                held,
                listeners,
            )
            process.start()
            if telling is not None:
                telling.keep_looking()
        except BaseException as error:
            fork_guard.end(_cause(error))
            if telling is not None:
                telling.failed(error)
            return _tell_failure(channel, error)
        try:
            code = process.serve()
        except BaseException as error:
            fork_guard.end(error)
            return _tell_failure(channel, error)
        return _leave(code, lambda: process.until)

    def probe(self, settings: Settings, channel: Channel) -> int:
        """Load the target and tell what it declares."""
        self._settings = settings
        setproctitle(f"gworker: probe [{self._settings.name}]")
        install_early(self._outputs.log)
        setup.become("probe")
        telling = self._telling(channel)
        reader = (
            key_files.Reader() if os.geteuid() == 0 and (settings.user or settings.group) else None
        )

        def declare() -> None:
            self._check_code()
            workers = self._load(channel)
            from gworker.app.validation import check

            declared = [path for worker in workers for path in worker.declaration().files]
            held = reader.read_all(declared) if reader is not None else None
            for worker in workers:
                check(worker, key_files.Files(held))
                _check_upload_dir(worker, settings)
            if telling is not None:
                telling.look()
            _declare(channel, workers)

        return self._help("probe", channel, declare, None, None, telling)

    def hooks(
        self, settings: Settings, channel: Channel, worker: str, calls: Sequence[tuple[str,
        Sequence[Any]]],
        user: str | None, group: str | None,
    ) -> int:  # fmt: skip
        """Load the target and make `calls` of callbacks of `worker`, one after the other."""
        self._settings = settings
        setproctitle(f"gworker: hooks [{self._settings.name}] {worker}")
        setup.become(f"hooks of {worker}")

        def make_calls() -> None:
            declared = self._find(worker, channel)
            for name, arguments in calls:
                _call(declared, name, arguments)

        return self._help(f"hooks of {worker}", channel, make_calls, user, group)

    def _help(
        self, helper: str, channel: Channel, step: Callable[[], None], user: str | None,
        group: str | None,
        telling: Telling | None = None,
    ) -> int:  # fmt: skip
        """Run one step of user code for the arbiter, and exit. helper: what does it."""
        try:
            self._prepare(channel, user, group)
            self._guard(helper, channel)
            step()
        except BaseException as error:
            fork_guard.end(_cause(error))
            if telling is not None:
                telling.failed(error)
            return _tell_failure(channel, error)
        return _leave(0)

    def _guard(self, label: str, channel: Channel, *let_go: Callable[[], None]) -> None:
        """User code follows: what it forks is not this process. let_go: what such a process does
        first of all."""
        title = f"gworker: child [{self._settings.name}] {label}"
        fork_guard.guard(title, setup.write_past_logging, setup.flush)
        for step in (*let_go, channel.close, stack_dump.uninstall):
            fork_guard.on_fork(step)
        fork_guard.on_fork(partial(setup.become, f"child of {label}"))

    def _check_code(self) -> None:
        """A reload must not mix two versions of gworker; a process that died is replaced all the
        same."""
        if code_checksum.code() != self._code:
            raise ConfigError(
                "gworker itself has changed on the disk since this instance began;"
                " `gworker upgrade` (or SIGUSR2) makes it run the new code, and reloads"
            )

    def _telling(self, channel: Channel) -> Telling | None:
        """With --reload: what tells the arbiter which files are in use."""
        if not self._settings.reload:
            return None
        from gworker.process.import_tracker import Telling

        return Telling(channel, time.time())

    def _prepare(self, channel: Channel, user: str | None = None, group: str | None = None) -> None:
        log.setLevel(self._settings.log_level.upper())
        _set_environment(self._settings)
        self._enter_directory()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        user = user or self._settings.user
        privileges.become(user, group or self._settings.group)
        if user is not None:
            readable.check(user, self._parts)
        _patch()
        from gworker.process import cooperative
        from gworker.process.source_position import Observer

        cooperative.install()
        observer = Observer(self._settings.directory)
        install_dump(
            self._outputs.log, lambda: channel.send({"event": "position", "line": observer.line()})
        )

    def _enter_directory(self) -> None:
        """The name may lead to another release than when the arbiter has begun."""
        try:
            directory.enter(self._settings.directory)
        except OSError as error:
            if self._settings.chdir is not None:
                raise ConfigError(
                    f"cannot change to {self._settings.chdir}: {error.strerror}"
                ) from None
            # It was removed. What the target needs of it is missed when that is loaded.

    def _load(self, channel: Channel) -> list[Worker]:
        from gworker.app.loader import load
        from gworker.app.overrides import override

        assert self._settings.target is not None
        settings = self._settings
        channel.send({"event": "step", "step": LOAD})
        workers = load(self._settings.target, settings.directory, settings.bind, settings.script)
        fork_guard.end()
        channel.send({"event": "step", "step": ""})
        setup.enable()
        override(workers, self._settings)
        # What is loaded stays: keep it out of every later collection.
        gc.collect()
        gc.freeze()
        return workers

    def _find(self, name: str, channel: Channel) -> Worker:
        for worker in self._load(channel):
            if worker.name == name:
                worker.count = worker.count or self._settings.workers or 1
                return worker
        raise LoadError(f"the target does not declare a Worker {name!r} any more")


def _set_environment(settings: Settings) -> None:
    """What the target finds in os.environ: what --env says, and none of the instance's own
    settings.

    They are meant for this instance. A gworker that the target starts would take its name and pid
    file from them.
    """
    for name in filter(is_setting, list(os.environ)):
        del os.environ[name]
    os.environ.update(settings.env)


@cache
def gevent_plugins() -> dict[str, tuple[EntryPoint, ...]]:
    """The entry points of gevent's plugins, by group.

    gevent asks for them at each of some 25 patching events, and each time the metadata of every
    installed distribution is read from disk: with 50 of them, three quarters of the time to boot.
    The arbiter looks once, and its children inherit what it found.
    """
    found = metadata.entry_points()
    groups = [f"gevent.plugins.monkey.{event}" for event in PATCH_EVENTS]
    return {group: tuple(found.select(group=group)) for group in groups}


def _patch() -> None:
    """`monkey.patch_all()`, which asks `gevent_plugins` instead of the disk.

    Imports make much that stays and next to no garbage: looking for it costs a tenth of the time to
    boot.
    """
    plugins = gevent_plugins()
    original = metadata.entry_points
    gc.disable()
    # Only gevent's calls come here, and each names a group: less than the signature allows.
    metadata.entry_points = lambda group: plugins.get(group, ())  # type: ignore[assignment]
    try:
        from gevent import monkey

        monkey.patch_all()
    finally:
        metadata.entry_points = original
        gc.enable()


def _check_upload_dir(declared: Worker, settings: Settings) -> None:
    from gworker.connection.http_settings import check_directory, upload_dir

    directory = upload_dir(declared.options, settings, declared.name)
    if directory is not None:
        check_directory(directory, declared.name)


def _call(declared: Worker, name: str, arguments: Sequence[Any]) -> None:
    """Call a callback of `declared`, if the code on the disk still has it; what it raises costs
    nothing else."""
    callback = declared.process_callbacks.get(name)
    if callback is None:
        return
    try:
        callback(declared, *arguments)
    except BaseException as error:
        fork_guard.end(error)
        log.exception("%s: exception in %s", declared.name, name)


def _cause(error: BaseException) -> BaseException:
    """What the target itself has raised."""
    return (
        error.__cause__ if isinstance(error, LoadError) and error.__cause__ is not None else error
    )


def _declare(channel: Channel, workers: Sequence[Worker]) -> None:
    if not channel.send(
        {"event": "declared", "workers": [worker.declaration().to_dict() for worker in workers]}
    ):
        raise ConfigError(f"{len(workers)} Workers are declared, more than one message can tell of")


def _tell_failure(channel: Channel, error: BaseException) -> int:
    text = error.traceback if isinstance(error, LoadError) else of_target(error)
    reason = str(error) if isinstance(error, GworkerError) else f"{type(error).__name__}: {error}"
    if len(reason) > MAX_REASON:
        reason = reason[:MAX_REASON] + " …"
    channel.send({"event": "failed", "reason": reason, "traceback": text})
    return _leave(1)


def _leave(code: int, until: Callable[[], float] = lambda: 0.0) -> int:
    """What the interpreter does at its end, short of unwinding into the arbiter's frames. until:
    see `leaving`."""
    if "gevent" in sys.modules:  # else no user code has run, and perhaps this user cannot read that
        from gworker.process.interpreter_exit import leave

        return leave(code, until)
    setup.flush()
    return code
