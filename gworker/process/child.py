"""A child of the arbiter, from the fork to the end of its one step."""

from __future__ import annotations

import gc
import logging
import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from gworker.app.worker import Worker
from gworker.config.settings import Settings
from gworker.config.sources import is_setting
from gworker.errors import ConfigError, GworkerError, LoadError
from gworker.ipc.boot_stage import LOAD
from gworker.ipc.channel import Channel
from gworker.logs import setup
from gworker.process import gevent_patching, stack_dump
from gworker.process.import_tracker import ImportReporter
from gworker.system import directory, fork_guard, privileges, readable
from gworker.system.tracebacks import of_target

log = logging.getLogger("gworker")

MAX_REASON = 1000  # characters of what an exception says about itself that are shown as the reason


class Child:
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
        self._loaded: list[Worker] | None = None
        self.reporter = ImportReporter(channel, time.time()) if settings.reload else None
        # How it leaves once user code may have run.
        self._leave: Callable[[Callable[[], float]], None] | None = None
        # When it has to have left, in monotonic seconds.
        self.deadline: Callable[[], float] = lambda: 0.0

    def forked(self, channel: Channel, label: str) -> Child:
        """This process, which was forked from a child that has loaded the target."""
        made = Child(self._settings, channel, label, self._log_to, self._parts)
        made._loaded, made._leave = self._loaded, self._leave
        return made

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
            if self._loaded is None:
                self._prepare(user, group)
            else:
                self._prepare_forked(user, group)
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
        self._drop_privileges(user, group)
        gevent_patching.patch_all()
        from gworker.process import cooperative

        # Not at the end: another release may have replaced its file by then.
        from gworker.process.interpreter_exit import leave

        self._leave = leave
        cooperative.install()
        self._install_dump()

    def _prepare_forked(self, user: str | None, group: str | None) -> None:
        # All but what it has from the process that has forked it.
        from gevent import reinit

        reinit()
        stack_dump.uninstall()
        stack_dump.install_early(self._log_to)
        if os.geteuid() == 0:
            self._drop_privileges(user, group)
        self._install_dump()

    def _drop_privileges(self, user: str | None, group: str | None) -> None:
        user = user or self._settings.user
        privileges.drop(user, group or self._settings.group)
        if user is not None:
            readable.check(user, self._parts)

    def _install_dump(self) -> None:
        here = os.path.join(self._settings.directory, "")
        stack_dump.install_dump(
            self._log_to,
            lambda line: self._channel.send({"event": "position", "line": line.removeprefix(here)}),
        )

    def load(self) -> list[Worker]:
        from gworker.app.limits import override
        from gworker.app.loader import load

        if self._loaded is not None:
            return self._loaded
        settings = self._settings
        assert settings.target is not None
        self._channel.send({"event": "step", "step": LOAD})
        workers = load(
            settings.target, settings.directory, settings.bind, settings.script, settings.app
        )
        fork_guard.end()
        self._channel.send({"event": "step", "step": ""})
        setup.enable()
        override(workers, settings)
        # What is loaded stays: keep it out of every later collection.
        gc.collect()
        gc.freeze()
        self._loaded = workers
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


def _set_environment(settings: Settings) -> None:
    # Put what --env says into os.environ, and take the instance's own settings out: a gworker that
    # the target starts would take its name and pid file from them.
    for name in filter(is_setting, list(os.environ)):
        del os.environ[name]
    os.environ.update(settings.env)
