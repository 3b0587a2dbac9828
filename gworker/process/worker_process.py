"""A worker process: load the target, serve one Worker, retire.

It talks to the arbiter by its channel alone; end-of-file there means that the arbiter is dead, and
then this process finishes what it has and leaves. The main greenlet starts the Worker and waits for
the end; everything else happens in the hub and in pooled greenlets.
"""

from __future__ import annotations

import _socket
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gevent
from gevent import get_hub
from gevent.event import AsyncResult
from gevent.exceptions import LoopExit

from gworker.app import worker
from gworker.app.limits import effective_limits, trusted_proxies
from gworker.app.worker import Worker
from gworker.client.udp import close_all
from gworker.config.settings import Settings
from gworker.connection import http_settings
from gworker.connection.context import ServerContext
from gworker.connection.ping import Pings
from gworker.errors import ConfigError
from gworker.handover import immovable
from gworker.handover.receiver import Taker
from gworker.handover.sender import Giver
from gworker.ipc.assignment import GOING_AWAY, STOP, Assignment, Why
from gworker.ipc.boot_stage import START
from gworker.ipc.channel import Channel
from gworker.ipc.heartbeat import Beat
from gworker.ipc.scoreboard import Column, Row
from gworker.logs import setup
from gworker.logs.access_log import AccessLog
from gworker.process import computing, timer
from gworker.process.connection_list import ConnectionList
from gworker.process.graceful_shutdown import Retirement
from gworker.process.loop_errors import LoopErrors
from gworker.process.request_limit import RequestLimit
from gworker.server.listeners import WorkerListeners
from gworker.system import fork_guard
from gworker.tls.key_files import Files, Held, unpack

log = logging.getLogger("gworker")

DIALLED_SECONDS = 1.0
"""What connections that this process has dialled may take to close, when all else has ended."""


class Process:
    """The life of one worker process. Implements `worker.Runtime`."""

    def __init__(
        self, declared: Worker, assignment: Assignment, settings: Settings, row: Row,
        channel: Channel,
        access: int | None = None, held: Held | None = None,
        listeners: Sequence[_socket.socket] = (),
    ) -> None:  # fmt: skip
        hub: Any = get_hub()
        self.worker = declared
        declared.count = assignment.count
        self.id = assignment.id
        self.stopping = False
        self._serves = False
        self._settings = settings
        self._row = row
        self._channel = channel
        self._loop: Any = hub.loop
        self._errors = LoopErrors(hub, row, self._retire_by_itself)
        self._errors.install()
        limits = effective_limits(declared.name, declared.limits, settings)
        self.service = ServerContext(declared, limits, row, self._loop, assignment.ids.numbers())
        self.service.proxies, self.service.forwarders = trusted_proxies(
            declared.name, declared.options, settings
        )
        if access is not None:
            name = f"{declared.name}#{assignment.id}"
            self.service.access = AccessLog(access, self._loop, name, settings.log_format)
        http_settings.apply(declared, self.service.limits, settings)
        self._listeners = WorkerListeners(self.service, Files(held))
        self._request_limit: RequestLimit | None = None
        if most := settings.max_requests:
            jitter = settings.max_requests_jitter
            self._request_limit = RequestLimit(
                self.service, self._listeners, most, jitter, self._ask_for_successor
            )
        self._board = assignment.scoreboard
        self._inherited = listeners
        self._ended: AsyncResult[int] = AsyncResult()
        self._beat = Beat(self._loop, row, setup.tick)
        self._retirement: Retirement | None = None
        self._told_handed_over = False
        self._has_arbiter = True
        self._watchers: list[Any] = []
        self._listening: Any = self._loop.io(channel.fileno(), 1)
        self.until = 0.0
        """When it has to have left, once it retires: monotonic seconds."""
        fork_guard.on_fork(self._let_go)

    @property
    def connections(self) -> dict[int, Any]:
        """The open connections by id."""
        return self.service.connections

    # ---- starting

    def start(self) -> None:
        """Call on_worker_start, begin to accept, and tell the arbiter. What on_worker_start raises
        goes up."""
        try:
            self._start()
        except BaseException:
            self._listeners.remove_files()
            raise

    def _start(self) -> None:
        timer.timers.attach(self.service.pool, self._row)
        title = f"gworker: computing [{self._settings.name}] {self.worker.name}#{self.id}"
        computing.attach(self._settings.computing_processes, title)
        worker.running.append((self.worker, self))
        self._beat.start()
        self.service.send_queues.start()
        self._watch(self._listening, self._on_channel)
        self._watch(self._loop.signal(signal.SIGTERM), self.stop)
        if START in self.worker.process_callbacks:
            self._channel.send({"event": "step", "step": START})
        self._call(START, contain=False)
        setup.enable()
        if self.stopping:  # the arbiter died meanwhile
            return
        if self._inherited:
            for each in self._inherited:
                each.setblocking(False)
            self._listeners.add(self._inherited, self.worker.listen_url or "", self._board)
        self._listeners.start()
        if self._request_limit is not None:
            self._request_limit.start()
        if self.service.limits.ping_interval:
            pings = Pings(self.service)
            self._watch(self._loop.timer(pings.period, pings.period), pings.look)
        self._beat.start()  # on_worker_start may have computed for long, and nobody waited for that
        self._serves = True
        self._channel.send({"event": "ready"})

    def _let_go(self) -> None:
        """In a process that user code has forked: all of this is the parent's."""
        for watcher in self._watchers:
            watcher.stop()
        self._beat.stop()
        if self._retirement is not None:
            self._retirement.let_go()
        if self._request_limit is not None:
            self._request_limit.let_go()
        self._listeners.let_go()
        self.service.let_go()
        timer.Timer.delete_all()

    def serve(self) -> int:
        """Serve until retired; return the exit code."""
        code = self._wait_for_end()
        self._call("on_worker_stop")
        if self.service.dialled:
            close_all(self.service, DIALLED_SECONDS)
        self._close_access_log()
        return code

    def _wait_for_end(self) -> int:
        while True:
            try:
                return self._ended.get() or 0
            except LoopExit:
                raise
            except BaseException as error:  # somebody has got hold of the main greenlet
                fork_guard.end(error)
                self._errors.end("the main greenlet", error)

    def _retire_by_itself(self) -> bool:
        """What ends a program was raised here. False: it serves nobody yet, and fails to start
        instead."""
        if self._serves:
            self.stop()
        return self._serves

    def _close_access_log(self) -> None:
        """Tell of the connections that the end cuts, too."""
        if self.service.access is not None:
            for connection in self.connections.values():
                if connection.status != "leaving":  # it may be another process's by now
                    connection.record_rest()
            self.service.access.close()

    def _watch(self, watcher: Any, callback: Callable[[], None], *options: Any) -> None:
        self._watchers.append(watcher)
        watcher.start(callback, *options)

    def _call(self, name: str, contain: bool = True) -> None:
        callback = self.worker.process_callbacks.get(name)
        if callback is None:
            return
        try:
            callback(self.worker)
        except BaseException as error:
            fork_guard.end(error)
            if not contain:
                raise
            self._row[Column.EXCEPTIONS] += 1
            log.exception("%s: exception in %s", self.worker.name, name)
        fork_guard.end()

    def listen(self, declared: Worker, url: str | None) -> str:
        """Open a further listener in this process, with the protocol and callbacks of
        `declared`."""
        if fork_guard.is_copy():
            raise ConfigError(
                f"cannot listen on {url}: this process was forked in a worker process, and "
                "serves nobody"
            )
        return self._listeners.open(url or declared.listen_url or "", declared)

    # ---- the arbiter's words

    def _on_channel(self) -> None:
        try:
            message, descriptors = self._channel.receive()
        except BlockingIOError:
            return
        if message is None:
            self._arbiter_died()
            return
        do = message["do"]
        if do == "retire":
            why = Why(message["code"], message["drain"], message["reload"])
            self.retire(why, message["seconds"], descriptors if message["handover"] else None)
        elif do == "handover":
            self._hand_over(descriptors)
        elif do == "survey":
            gevent.spawn(self._survey)
        elif do == "serve_on":
            if self._request_limit is not None:
                self._request_limit.serve_on()
        elif do == "takeover":
            self._take_over(descriptors[0], message["expected"])
        elif do == "count":
            self.worker.count = message["count"]
        elif do == "hurry":
            if self._retirement is not None:
                self._retirement.hurry()
        elif do == "quit":
            self._quit()
        elif do == "reload":
            self._listeners.reread_certificates(unpack(descriptors[0]) if descriptors else {})
            gevent.spawn(self._call, "on_worker_reload")
        elif do == "connections":
            self._list(message["request"], message["limit"])
        elif do == "reopen":
            if self.service.access is not None:
                self.service.access.flush()
            setup.replace(list(zip(message["targets"], descriptors, strict=True)))

    def callback_failed(self) -> None:
        """See `loop_errors`: the message that could not be handled is read, and the next one may be
        fine."""
        if self._has_arbiter:
            self._listening.start(self._on_channel)

    def _arbiter_died(self) -> None:
        """Nobody kills this process any more if it does not end, so nothing comes before what makes
        it end."""
        self._has_arbiter = False
        self._listening.stop()
        self._watch(self._loop.timer(self._settings.graceful_timeout), self._quit)
        try:
            self.retire(STOP, self._settings.graceful_timeout)
        finally:
            log.error("the arbiter is gone: %s#%d finishes what it has", self.worker.name, self.id)

    def _list(self, request: int, limit: int | None) -> None:
        answer = {"event": "connections", "request": request}
        ConnectionList(self.service, limit, partial(self._channel.send, answer)).begin()

    # ---- ending

    def stop(self) -> None:
        """Ask the arbiter for a successor; it then tells us to retire."""
        self._ask_for_successor("")

    def _ask_for_successor(self, why: str) -> bool:
        return self._channel.send({"event": "replace", "reason": why})

    def retire(self, why: Why, seconds: float, successors: list[int] | None = None) -> None:
        """Accept no more, end every connection as soon as that cuts nothing off, then leave.

        successors: links to the processes that take connections over (there may be none yet); None:
        they are not handed over.
        """
        if self.stopping:
            return
        self.until = time.monotonic() + seconds
        retirement = self._begin_to_end(why.code)
        if why.reload:
            gevent.spawn(self._call, "on_worker_reload")
        timer.timers.retire()
        try:
            self._listeners.close(take_queued=why.drain)
        finally:  # whatever is wrong with a listener, the process ends
            giver = Giver(self.service, self._handed_over) if successors is not None else None
            retirement.begin(seconds, giver)
            if giver is None:
                self._handed_over()
            self._hand_over(successors or [])

    def _begin_to_end(self, code: int) -> Retirement:
        self.stopping = self.service.retiring = True
        has_enough = self.service.takes_no_more
        if self._request_limit is not None:
            self._request_limit.end()
        self._retirement = Retirement(
            self.service, code, lambda: self._ended.set(0), strict=has_enough
        )
        return self._retirement

    def _quit(self) -> None:
        """Say goodbye to everybody at once, and leave."""
        self.until = time.monotonic()
        retirement = self._retirement or self._begin_to_end(GOING_AWAY)
        try:
            self._listeners.close(take_queued=False)
        finally:
            retirement.quit()

    # ---- handover

    def _hand_over(self, successors: list[int]) -> None:
        giver = self.service.giver
        if giver is not None and successors:
            giver.give_to(successors)
            return
        for descriptor in successors:
            os.close(descriptor)

    def _handed_over(self) -> None:
        """All that could go at once has gone; the busy ones follow. Those that stay are counted."""
        if not self._told_handed_over and self._retirement is not None:
            self._told_handed_over = True
            self._retirement.sweep()
            self._tell_staying("handed_over", self._retirement.staying)

    def _survey(self) -> None:
        self._tell_staying("survey", immovable.count(self.service))

    def _tell_staying(self, event: str, found: Counter[str]) -> None:
        self._channel.send({"event": event, "staying": immovable.summary(found)})

    def _take_over(self, descriptor: int, expected: int) -> None:
        Taker(self.service, descriptor, expected)
