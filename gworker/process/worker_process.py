"""A worker process: start one Worker, serve it, retire.

It owns the channel to the arbiter. End-of-file there means that the arbiter is dead: then this
process finishes what it has and leaves. The main greenlet starts the Worker and waits for the end;
everything else happens in the hub and in pooled greenlets.
"""

from __future__ import annotations

import _socket
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import gevent
from gevent import get_hub
from gevent.event import Event
from gevent.exceptions import LoopExit
from greenlet import greenlet

from gworker.app import observers, worker
from gworker.app.callbacks import MESSAGE_CALLBACKS
from gworker.app.limits import effective_limits, trusted_proxies
from gworker.app.worker import Worker
from gworker.client.connection import close_all
from gworker.config.settings import Settings
from gworker.connection import http_settings
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.errors import ConfigError
from gworker.handover import immovable
from gworker.handover.receiver import HandoverReceiver
from gworker.handover.sender import HandoverSender
from gworker.ipc.assignment import GOING_AWAY, STOP, Assignment, Why
from gworker.ipc.boot_stage import START
from gworker.ipc.channel import Channel
from gworker.ipc.fd_socket import Message
from gworker.ipc.heartbeat import Beat
from gworker.ipc.scoreboard import Row
from gworker.logs import setup
from gworker.logs.access_format import custom_format
from gworker.logs.access_log import AccessLog
from gworker.process import brokers, computing, timer
from gworker.process.connection_list import list_connections
from gworker.process.graceful_shutdown import GracefulShutdown
from gworker.process.loop_errors import LoopErrors
from gworker.process.request_limit import RequestLimit
from gworker.server.listeners import WorkerListeners
from gworker.system import fork_guard
from gworker.system.epoll import READ
from gworker.system.event_loop import Watcher
from gworker.tls.key_files import Held, unpack

log = logging.getLogger("gworker")

# Seconds that a start waits for the broker.
START_SECONDS = 5.0

# Seconds for which a broker is to be told that another process is dead, and between two attempts.
DEATH_SECONDS = 60.0
DEATH_RETRY_SECONDS = 1.0


class WorkerProcess:
    """The life of one worker process. Implements `worker.Runtime`."""

    def __init__(
        self,
        declared: Worker,
        assignment: Assignment,
        settings: Settings,
        row: Row,
        channel: Channel,
        access: int | None = None,
        held: Held | None = None,
        listeners: Sequence[_socket.socket] = (),
    ) -> None:
        self.worker, self.id = declared, assignment.id
        declared.count = assignment.count
        self.stopping = self._serves = self._has_reported_handover = False
        self._settings = settings
        self._channel = channel
        hub = get_hub()
        self._loop = hub.loop
        self._errors = LoopErrors(hub, row, self._stop_by_itself)
        limits = effective_limits(declared.name, declared.limits, settings)
        self.service = ServerContext(declared, limits, row, self._loop, assignment.ids.numbers())
        trusted = trusted_proxies(declared.name, declared.options, settings)
        self.service.proxies, self.service.forwarders = trusted
        if access is not None:
            name = f"{declared.name}#{assignment.id}"
            custom = custom_format(declared.name, declared.options, settings)
            self.service.access = AccessLog(access, self._loop, name, settings.log_format, custom)
        self.service.observe([*observers.of_all, *declared.observers])
        http_settings.apply(declared, self.service.limits, settings)
        self._listeners = WorkerListeners(self.service, held)
        most, jitter = settings.max_requests, settings.max_requests_jitter
        self._request_limit = RequestLimit(
            self.service, self._listeners, most, jitter, self._ask_for_successor
        )
        self._board = assignment.scoreboard
        self._inherited = listeners
        self._ended = Event()
        self._beat = Beat(self._loop, row, self._on_beat)
        self._shutdown: GracefulShutdown | None = None
        self._has_arbiter = True
        self._watchers: list[Watcher] = []
        self._channel_watcher = self._loop.io(channel.fileno(), READ)
        self.until = 0.0  # when it has to have left, once it retires, in monotonic seconds
        self.service.make_messaging = partial(
            brokers.make_messaging,
            partial(brokers.make_broker, settings, assignment),
            assignment.generation,
        )
        self._is_start = assignment.is_start
        fork_guard.on_fork(self._release_all)

    def _on_beat(self) -> None:
        setup.tick()
        messaging = self.service.used_messaging
        if messaging is not None:
            brokers.write_figures(messaging, self.service.row)

    @property
    def connections(self) -> dict[int, Connection]:
        return self.service.registry.connections

    # ---- starting

    def start(self) -> None:
        """Call on_worker_start, begin to accept, and report it. Raises what it raises."""
        timer.timers.attach(self.service.pool, self.service.row)
        title = f"gworker: computing [{self._settings.name}] {self.worker.name}#{self.id}"
        computing.attach(self._settings.computing_processes, title)
        worker.running.append((self.worker, self))
        self._beat.start()
        self.service.start()
        self._watch(self._channel_watcher, self._on_readable)
        self._watch(self._loop.signal(signal.SIGTERM), self.stop)
        try:
            self._start_messaging()
            if (callback := self.worker.process_callbacks.get(START)) is not None:
                self._channel.send({"event": "step", "step": START})
                callback(self.worker)
                fork_guard.end()
                self.service.observe([*observers.of_all, *self.worker.observers])
            setup.enable()
            if self.stopping:  # the arbiter died meanwhile
                return
            for each in self._inherited:
                each.setblocking(False)
            self._listeners.add(self._inherited, self.worker.listen_url or "", self._board)
            self._listeners.start()
        except BaseException:
            self._listeners.remove_files()
            raise
        self._request_limit.start()
        self._beat.start()  # on_worker_start may have computed for long, which is no lag
        self._serves = True
        self._channel.send({"event": "ready"})

    def _start_messaging(self) -> None:
        # Elsewhere at its first use. What its application has imported is used in some process, so
        # this one has to hear of it.
        is_used = "gworker.messages" in sys.modules or self._settings.broker.is_redis
        if is_used or any(name in self.worker.process_callbacks for name in MESSAGE_CALLBACKS):
            messaging = self.service.start_messaging(START_SECONDS, must_be_up=self._is_start)
            brokers.write_figures(messaging, self.service.row)

    def _release_all(self) -> None:
        # In a process that user code has forked: all of this is the parent's.
        for watcher in self._watchers:
            watcher.stop()
        self._beat.stop()
        self._request_limit.release_all()
        if self._shutdown is not None:
            self._shutdown.release_all()
        self._listeners.release_all()
        self.service.release_all()
        timer.Timer.delete_all()

    def serve(self) -> None:
        while not self._ended.is_set():
            try:
                self._ended.wait()
            except LoopExit:
                raise
            except BaseException as error:  # user code has got hold of the main greenlet
                fork_guard.end(error)
                self._errors.end("the main greenlet", error)
        self._call("on_worker_stop")
        if self.service.registry.dialled:
            close_all(self.service, 1.0)  # seconds; all else has ended
        self.service.end_messaging()
        for connection in self.connections.values():
            if connection.status != "migrating":  # else it may be another process's by now
                connection.flush_observer()
        gevent.sleep(0)  # observers are told
        if self.service.access is not None:
            self.service.access.close()

    def _stop_by_itself(self) -> bool:
        # What ends a program was raised here. False: it does not serve yet, and fails to start.
        if self._serves:
            self.stop()
        return self._serves

    def _watch(self, watcher: Watcher, callback: Callable[[], None]) -> None:
        self._watchers.append(watcher)
        watcher.start(callback)

    def _call(self, name: str) -> None:
        callback = self.worker.process_callbacks.get(name)
        if callback is not None:
            try:
                callback(self.worker)
            except BaseException:
                self.service.report_exception("%s: exception in %s", self.worker.name, name)
            fork_guard.end()

    def _start_reload_callback(self) -> None:
        # A pool job, not a greenlet of its own: the process does not leave while a job runs.
        self.service.run_queue.add(partial(self.service.pool.start, self))

    def run(self, _: greenlet) -> None:
        """The pool job."""
        self._call("on_worker_reload")

    def listen(self, declared: Worker, url: str | None) -> str:
        """Open a further listener, with the protocol and callbacks of `declared`."""
        if fork_guard.is_copy():
            why = "this process was forked in a worker process, and serves no peers"
            raise ConfigError(f"cannot listen on {url}: {why}")
        return self._listeners.open(url or declared.listen_url or "", declared)

    # ---- what the arbiter orders

    def _on_readable(self) -> None:
        try:
            message, descriptors = self._channel.receive()
        except BlockingIOError:
            return
        if message is None:
            self._arbiter_died()
        else:
            self._obey(message, descriptors)

    def callback_failed(self) -> None:
        """See `loop_errors`: the message is read, and the next one may be fine."""
        if self._has_arbiter:
            self._channel_watcher.start(self._on_readable)

    def _obey(self, message: Message, descriptors: list[int]) -> None:
        shutdown = self._shutdown
        match message["do"]:
            case "retire":
                why = Why(message["code"], message["drain"], message["reload"])
                self.retire(why, message["seconds"], descriptors if message["handover"] else None)
            case "hurry" if shutdown is not None:
                shutdown.hurry()
            case "quit":
                self._quit()
            case "serve_on":
                self._request_limit.serve_on()
            case "handover":
                self._hand_over(descriptors)
            case "takeover":
                HandoverReceiver(self.service, descriptors[0], message["expected"])
            case "survey":
                gevent.spawn(self._survey)
            case "count":
                self.worker.count = message["count"]
            case "reload":
                self._listeners.reread_certificates(unpack(descriptors[0]) if descriptors else {})
                self._start_reload_callback()
            case "connections":
                answer = {"event": "connections", "request": message["request"]}
                done = partial(self._channel.send, answer)
                gevent.spawn(list_connections, self.service, message["limit"], done)
            case "died" if self._settings.broker.is_redis:  # others see it by themselves
                gevent.spawn(self._process_died, message["pid"])
            case "reopen":
                if self.service.access is not None:
                    self.service.access.flush()
                setup.replace(list(zip(message["targets"], descriptors, strict=True)))

    def _process_died(self, pid: int) -> None:
        # A broker that is away is told when it is back, unless it has seen by then that nothing
        # comes from that process any more.
        until = time.monotonic() + DEATH_SECONDS
        while not self.service.messaging.process_died(pid):
            if time.monotonic() >= until:
                return
            gevent.sleep(DEATH_RETRY_SECONDS)
        self._channel.send({"event": "told", "pid": pid})

    def _arbiter_died(self) -> None:
        # What makes this process end comes first: there is no arbiter that would kill it.
        self._has_arbiter = False
        self._channel_watcher.stop()
        self._watch(self._loop.timer(self._settings.graceful_timeout), self._quit)
        try:
            self.retire(STOP, self._settings.graceful_timeout)
        finally:
            log.error("the arbiter is gone: %s#%d finishes what it has", self.worker.name, self.id)

    # ---- ending

    def stop(self) -> None:
        """Ask the arbiter for a successor, which then orders this process to retire."""
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
        shutdown = self._begin_shutdown(why.code)
        if why.reload:
            self._start_reload_callback()
        timer.timers.retire()
        try:
            self._listeners.close(take_queued=why.drain)
        finally:  # whatever is wrong with a listener, the process ends
            sender = (
                None if successors is None else HandoverSender(self.service, self._report_handover)
            )
            shutdown.begin(seconds, sender)
            if sender is None:
                self._report_handover()
            self._hand_over(successors or [])

    def _begin_shutdown(self, code: int) -> GracefulShutdown:
        self.stopping = self.service.retiring = True
        has_enough = self.service.takes_no_more
        self._request_limit.end()
        self._shutdown = GracefulShutdown(self.service, code, self._ended.set, strict=has_enough)
        return self._shutdown

    def _quit(self) -> None:
        self.until = time.monotonic()
        shutdown = self._shutdown or self._begin_shutdown(GOING_AWAY)
        try:
            self._listeners.close(take_queued=False)
        finally:
            shutdown.quit()

    # ---- handover

    def _hand_over(self, successors: list[int]) -> None:
        sender = None if self._shutdown is None else self._shutdown.sender
        if sender is not None and successors:
            sender.give_to(successors)
            return
        for descriptor in successors:
            os.close(descriptor)

    def _report_handover(self) -> None:
        # All that could go at once has gone; busy ones follow. Those that stay are counted.
        if not self._has_reported_handover and self._shutdown is not None:
            self._has_reported_handover = True
            self._shutdown.poll()
            staying = immovable.summary(self._shutdown.staying)
            self._channel.send({"event": "handed_over", "staying": staying})

    def _survey(self) -> None:
        staying = immovable.summary(immovable.count(self.service))
        self._channel.send({"event": "survey", "staying": staying})
