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
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from socket import socket
from traceback import format_exc
from typing import NoReturn
from zlib import crc32

from setproctitle import setproctitle

from gworker import version
from gworker.app.worker import Worker
from gworker.config import secret_keys
from gworker.config.settings import Settings
from gworker.errors import ConfigError
from gworker.ipc.assignment import Assignment
from gworker.ipc.channel import Channel
from gworker.ipc.connection_ids import ConnectionIds
from gworker.ipc.fd_socket import Message
from gworker.ipc.scoreboard import Row, Scoreboard
from gworker.logs import setup
from gworker.process import mold, stack_dump
from gworker.process.child import Child
from gworker.system import fork_guard, heap, readable
from gworker.tls import key_files

log = logging.getLogger("gworker")


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
        return self._serve(child, assignment, settings, row, channel, held)

    def _serve(
        self,
        child: Child,
        assignment: Assignment,
        settings: Settings,
        row: Row,
        channel: Channel,
        held: key_files.Held,
    ) -> int:
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
        return child.run(self._declaring(child, settings, channel))

    def mold(
        self,
        settings: Settings,
        row: Row,
        channel: Channel,
        scoreboard: Scoreboard,
        ids: ConnectionIds,
    ) -> int:
        child = self._child(settings, channel, "mold", f"mold [{settings.name}]")
        declare = self._declaring(child, settings, channel)

        def start(order: Message, descriptors: list[int]) -> NoReturn:
            self._leave_mold(child, settings, scoreboard, ids, order, descriptors)

        def serve() -> None:
            before = mold.opened()
            declare()
            mold.warn_of_shared(before)
            from gworker.process import worker_process  # noqa: F401  (its memory is shared, too)

            gc.collect()
            gc.freeze()
            mold.Mold(channel, row, start).run()

        return child.run(serve)

    def _leave_mold(
        self,
        child: Child,
        settings: Settings,
        scoreboard: Scoreboard,
        ids: ConnectionIds,
        order: Message,
        descriptors: list[int],
    ) -> NoReturn:
        # In a process that the mold has forked: be a worker process, and never return.
        code = 1
        theirs, position, *rest = descriptors
        channel = Channel(theirs)
        try:
            held = key_files.unpack(rest.pop(0)) if order["files"] else {}
            ids.use(position)
            row = scoreboard.row(order.pop("row"))
            del order["do"]
            assignment = Assignment(**order, listeners=tuple(rest), scoreboard=scoreboard, ids=ids)
            label = f"{assignment.worker}#{assignment.id}"
            setproctitle(f"gworker: worker [{settings.name}] {label}")
            setup.set_process_name(label)
            own = child.forked(channel, label)
            code = self._serve(own, assignment, settings, row, channel, held)
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            channel.send({"event": "failed", "reason": reason, "traceback": format_exc()})
        finally:
            os._exit(code)

    def _declaring(self, child: Child, settings: Settings, channel: Channel) -> Callable[[], None]:
        # What loads the target and tells the declarations. A part is done here already, with the
        # privileges that this process is about to give up.
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

            secret_keys.read(settings.secret_key)
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

        return declare

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

    def _child(self, settings: Settings, channel: Channel, label: str, title: str) -> Child:
        setproctitle(f"gworker: {title}")
        stack_dump.install_early(self._outputs.log)
        setup.set_process_name(label)
        return Child(settings, channel, label, self._outputs.log, self._parts)


def _call(declared: Worker, name: str, arguments: Sequence[object]) -> None:
    callback = declared.process_callbacks.get(name)
    if callback is None:
        return
    try:
        callback(declared, *arguments)
    except BaseException as error:  # the next call is made all the same
        fork_guard.end(error)
        log.exception("%s: exception in %s", declared.name, name)
