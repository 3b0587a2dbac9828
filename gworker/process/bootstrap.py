"""The first steps of a child: drop privileges, patch, load the target.

This is the way from the arbiter's world into gevent's. Everything that a child imports beyond what
the arbiter has is imported here, after the fork and after `monkey.patch_all()`.
"""

from __future__ import annotations

import _socket
import gc
import glob
import logging
import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache, partial
from importlib import metadata
from importlib.metadata import EntryPoint
from socket import socket
from zlib import crc32

from setproctitle import setproctitle

from gworker import version
from gworker.app.worker import Worker
from gworker.config.settings import Settings
from gworker.config.sources import is_setting
from gworker.errors import ConfigError, GworkerError, LoadError
from gworker.ipc.assignment import Assignment
from gworker.ipc.boot_stage import LOAD
from gworker.ipc.channel import Channel
from gworker.ipc.scoreboard import Row
from gworker.logs import setup
from gworker.process import stack_dump
from gworker.process.import_tracker import ImportReporter
from gworker.system import directory, fork_guard, heap, privileges, readable
from gworker.system.tracebacks import of_target
from gworker.tls import key_files

log = logging.getLogger("gworker")

MAX_REASON = 1000  # characters of what an exception says about itself that are shown as the reason

# What plugins of gevent may be called for (gevent.events).
PATCH_EVENTS = (
    "will_patch_all",
    "will_patch_module",
    "did_patch_module",
    "did_patch_builtins",
    "did_patch_all",
)


def code_version() -> int:
    """A checksum of the names and contents of all source files, and of the compiled core.

    Children import the half of it that the arbiter does not have. After an update of the package
    that half would be of another version than what they inherit. Times would not do: a reproducible
    build gives each file the same one, and installing the same version again, or a copy, gives the
    same code another one.
    """
    found = 0
    package = glob.escape(os.path.dirname(version.__file__))
    paths = glob.glob(f"{package}/**/*.py", recursive=True)
    for path in sorted(paths + glob.glob(f"{package}/core/*.so")):
        found = crc32(path.encode(errors="surrogateescape"), found)
        with suppress(OSError), open(path, "rb") as file:  # it is just being replaced
            found = crc32(file.read(), found)
    return found


@cache
def gevent_plugins() -> dict[str, tuple[EntryPoint, ...]]:
    """The entry points of gevent's plugins, by group.

    gevent asks for them at each of some 25 patching events, and each time the metadata of every
    installed distribution is read: with 50 of them, three quarters of the time to boot. The arbiter
    looks once, and its children inherit what it found.
    """
    found = metadata.entry_points()
    groups = [f"gevent.plugins.monkey.{event}" for event in PATCH_EVENTS]
    return {group: tuple(found.select(group=group)) for group in groups}


class Bootstrap:
    """What the arbiter's children run. Implements `spawner.Entry`."""

    def __init__(self, outputs: setup.Outputs) -> None:
        self._outputs = outputs
        self._code = code_version()
        self._parts = readable.parts()

    def worker(self, assignment: Assignment, settings: Settings, row: Row, channel: Channel) -> int:
        label = f"{assignment.worker}#{assignment.id}"
        child = self._child(settings, channel, label, f"worker [{settings.name}] {label}")
        held = key_files.read_all(assignment.files)
        assignment.ids.open()
        listeners = [_socket.socket(fileno=each) for each in assignment.listeners]
        release = (assignment.scoreboard.make_private, assignment.ids.let_go)

        def serve() -> None:
            for listener in listeners:
                fork_guard.on_fork(listener.close)
            heap.keep_freed_memory()
            declared = child.find(assignment.worker)
            from gworker.process.worker_process import WorkerProcess

            process = WorkerProcess(
                declared, assignment, settings, row, channel, self._outputs.access, held, listeners
            )
            process.start()
            if child.reporter is not None:
                child.reporter.start()
            child.deadline = lambda: process.until
            process.serve()

        return child.run(serve, assignment.user, assignment.group, release)

    def probe(self, settings: Settings, channel: Channel) -> int:
        child = self._child(settings, channel, "probe", f"probe [{settings.name}]")
        drops_root = os.geteuid() == 0 and (settings.user or settings.group)
        reader = key_files.Reader() if drops_root else None

        def declare() -> None:
            # A reload must not mix two versions; a process that died is replaced all the same.
            if code_version() != self._code:
                raise ConfigError(
                    "gworker itself has changed on the disk since this instance began;"
                    " `gworker upgrade` (or SIGUSR2) makes it run the new code, and reloads"
                )
            workers = child.load()
            from gworker.app.validation import check
            from gworker.connection.http_settings import check_directory, upload_dir

            declarations = [worker.declaration() for worker in workers]
            files = [path for each in declarations for path in each.files]
            held = reader.read_all(files) if reader is not None else None
            for worker in workers:
                check(worker, held)
                uploads = upload_dir(worker.options, settings, worker.name)
                if uploads is not None:
                    check_directory(uploads, worker.name)
            if child.reporter is not None:
                child.reporter.poll()
            declared = [asdict(each) for each in declarations]
            if not channel.send({"event": "declared", "workers": declared}):
                raise ConfigError(
                    f"{len(workers)} Workers are declared, more than one message can tell of"
                )

        return child.run(declare)

    def broker(
        self, listeners: Sequence[socket], settings: Settings, row: Row, channel: Channel
    ) -> int:
        setproctitle(f"gworker: broker [{settings.name}]")
        stack_dump.install_early(self._outputs.log)
        setup.set_process_name("broker")
        from gworker.process.broker_process import BrokerProcess

        try:
            BrokerProcess(listeners, settings, row, channel).run()
        except ConfigError as error:
            channel.send({"event": "failed", "reason": str(error), "traceback": ""})
            return 1
        finally:
            setup.flush()
        return 0

    def hooks(
        self,
        settings: Settings,
        channel: Channel,
        worker: str,
        calls: Sequence[tuple[str, Sequence[object]]],
        user: str | None,
        group: str | None,
    ) -> int:
        """Load the target and make `calls` of callbacks of `worker`, one after the other."""
        label = f"hooks of {worker}"
        child = self._child(settings, channel, label, f"hooks [{settings.name}] {worker}")

        def make_calls() -> None:
            declared = child.find(worker)
            for name, arguments in calls:
                _call(declared, name, arguments)

        return child.run(make_calls, user, group)

    def _child(self, settings: Settings, channel: Channel, label: str, title: str) -> _Child:
        setproctitle(f"gworker: {title}")
        stack_dump.install_early(self._outputs.log)
        setup.set_process_name(label)
        return _Child(settings, channel, label, self._outputs.log, self._parts)


class _Child:
    """This process, from the fork to the end of its one step."""

    def __init__(
        self,
        settings: Settings,
        channel: Channel,
        label: str,
        log_to: int,
        parts: Mapping[str, str],
    ) -> None:
        self._settings = settings
        self._channel = channel
        self._label = label
        self._log_to = log_to
        self._parts = parts
        self.reporter = ImportReporter(channel, time.time()) if settings.reload else None
        # How it leaves once user code may have run.
        self._leave: Callable[[Callable[[], float]], None] | None = None
        # When it has to have left, in monotonic seconds.
        self.deadline: Callable[[], float] = lambda: 0.0

    def run(
        self,
        step: Callable[[], None],
        user: str | None = None,
        group: str | None = None,
        release: Sequence[Callable[[], None]] = (),
    ) -> int:
        """Prepare this process, run `step`, leave; return the exit code.

        user, group: None takes those of the settings. release: what a process that user code forks
        gives up first of all.
        """
        code = 0
        try:
            self._prepare(user, group)
            title = f"gworker: child [{self._settings.name}] {self._label}"
            fork_guard.guard(title, setup.write_past_logging, setup.flush)
            for let_go in (*release, self._channel.close, stack_dump.uninstall):
                fork_guard.on_fork(let_go)
            fork_guard.on_fork(partial(setup.set_process_name, f"child of {self._label}"))
            step()
        except BaseException as error:
            # The cause of a LoadError is what the target itself has raised.
            fork_guard.end((isinstance(error, LoadError) and error.__cause__) or error)
            if self.reporter is not None:
                self.reporter.report_failure(error)
            self._report_failure(error)
            code = 1
        # Without unwinding into the arbiter's frames.
        if self._leave is not None:
            self._leave(self.deadline)
        setup.flush()
        return code

    def _prepare(self, user: str | None, group: str | None) -> None:
        log.setLevel(self._settings.log_level.upper())
        _set_environment(self._settings)
        # The name may lead to another release than when the arbiter began.
        try:
            directory.enter(self._settings.directory)
        except OSError as error:  # it was removed; loading the target shows what is missing
            if chdir := self._settings.chdir:
                raise ConfigError(f"cannot change to {chdir}: {error.strerror}") from None
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        user = user or self._settings.user
        privileges.drop(user, group or self._settings.group)
        if user is not None:
            readable.check(user, self._parts)
        _patch_all()
        from gworker.process import cooperative

        # Not at the end: another release may have replaced its file by then.
        from gworker.process.interpreter_exit import leave

        self._leave = leave
        cooperative.install()
        here = os.path.join(self._settings.directory, "")
        stack_dump.install_dump(
            self._log_to,
            lambda line: self._channel.send({"event": "position", "line": line.removeprefix(here)}),
        )

    def load(self) -> list[Worker]:
        from gworker.app.limits import override
        from gworker.app.loader import load

        settings = self._settings
        assert settings.target is not None
        self._channel.send({"event": "step", "step": LOAD})
        workers = load(settings.target, settings.directory, settings.bind, settings.script)
        fork_guard.end()
        self._channel.send({"event": "step", "step": ""})
        setup.enable()
        override(workers, settings)
        # What is loaded stays: keep it out of every later collection.
        gc.collect()
        gc.freeze()
        return workers

    def find(self, name: str) -> Worker:
        # Raises LoadError.
        for worker in self.load():
            if worker.name == name:
                worker.count = worker.count or self._settings.workers or 1
                return worker
        raise LoadError(f"the target does not declare a Worker {name!r} any more")

    def _report_failure(self, error: BaseException) -> None:
        text = error.traceback if isinstance(error, LoadError) else of_target(error)
        ours = isinstance(error, GworkerError)
        reason = str(error) if ours else f"{type(error).__name__}: {error}"
        if len(reason) > MAX_REASON:
            reason = reason[:MAX_REASON] + " …"
        self._channel.send({"event": "failed", "reason": reason, "traceback": text})


def _patch_all() -> None:
    # `monkey.patch_all()`, which asks `gevent_plugins` instead of the disk. Imports make much that
    # stays and next to no garbage: looking for it costs a tenth of the time to boot.
    plugins = gevent_plugins()
    original = metadata.entry_points
    gc.disable()
    # Only gevent calls this meanwhile, and it names a group each time: less than the signature
    # allows.
    metadata.entry_points = lambda group: plugins.get(group, ())  # type: ignore[assignment]
    try:
        from gevent import monkey

        monkey.patch_all()
    finally:
        metadata.entry_points = original
        gc.enable()


def _set_environment(settings: Settings) -> None:
    # Put what --env says into os.environ, and take the instance's own settings out: a gworker that
    # the target starts would take its name and pid file from them.
    for name in filter(is_setting, list(os.environ)):
        del os.environ[name]
    os.environ.update(settings.env)


def _call(declared: Worker, name: str, arguments: Sequence[object]) -> None:
    callback = declared.process_callbacks.get(name)
    if callback is None:
        return
    try:
        callback(declared, *arguments)
    except BaseException as error:  # the next call is made all the same
        fork_guard.end(error)
        log.exception("%s: exception in %s", declared.name, name)
