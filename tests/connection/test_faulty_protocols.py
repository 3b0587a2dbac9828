"""Whatever method of a user's protocol raises, or returns no bytes where bytes are due: one
connection ends, in order.

It has its on_close, once; the tables, the pool and the event loop are as if it had never been, and
others are served.
"""

from __future__ import annotations

import _socket
import select
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent import get_hub
from place import Place

from gworker import ErrorCode, connect
from gworker.app import worker as workers
from gworker.connection.connection import Connection
from gworker.handover.sender import HandoverSender
from gworker.process.graceful_shutdown import GracefulShutdown
from gworker.protocols import EOF, NEED_DATA, Protocol
from gworker.protocols.lockstep import lockstep

RAISES = RuntimeError("boom")
EXITS = SystemExit("boom")

NO_BYTES = ("a str", 5, [1])

PROPERTIES = ("awaits_answer", "is_answering", "is_partial")


class Sound(Protocol):
    """Every read is a message, and has one byte as its answer."""

    name = "sound"
    keeps_alive = True
    data = b""
    ended = False
    owes = False
    waits: Any = ""

    def receive_data(self, data: bytes) -> None:
        self.data = data
        self.ended = self.ended or not data
        self.has_output = self.owes and bool(data)

    def next_event(self) -> Any:
        data, self.data = self.data, b""
        if data == b"part":
            return NEED_DATA
        return data or (EOF if self.ended else NEED_DATA)

    def data_to_send(self) -> bytes:
        self.has_output = False
        return b"output"

    def encode(self, message: Any) -> bytes:
        return bytes(message)

    def waiting_for(self) -> Any:
        return self.waits

    def take_unparsed(self) -> bytes:
        return b""


class Rude(Sound):
    """One that pickle finds."""

    def close(self, code: int = 1000, reason: str = "") -> bytes:
        raise RAISES


def faulty(method: str, fault: Any, **attributes: Any) -> Any:
    """A class whose `method` raises, or returns what is no bytes, once the class is armed."""

    def fail(self: Any, *arguments: Any) -> Any:
        if not made.armed:
            before = getattr(Sound, method)
            return before.fget(self) if method in PROPERTIES else before(self, *arguments)
        if isinstance(fault, BaseException):
            raise type(fault)(*fault.args)  # a new one: its traceback keeps sockets open
        return fault

    own = property(fail) if method in PROPERTIES else fail
    made = type(
        "Faulty",
        (Sound,),
        {method: own, "armed": False, "owes": method == "data_to_send", **attributes},
    )
    made.keeps_alive = method != "is_partial"  # of one whose peers rest, it is not asked
    return made


class Scene(Place):
    """A service, what goes wrong with which of its connections, and what the event loop hears of
    it."""

    method = ""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **limits: Any) -> None:
        super().__init__(**limits)
        self.wrong: list[Any] = []
        self.sender: HandoverSender | None = None
        self.peer: Any = None
        self.closing: list[Any] = []
        monkeypatch.setattr(
            get_hub(), "print_exception", lambda context, *error: self.wrong.append(error)
        )
        monkeypatch.setattr(
            workers, "running", [(self.worker, SimpleNamespace(service=self.service))]
        )
        self.worker.on_connect = None
        self.worker.handover = True
        self.worker.on_message = self.heard
        self.worker.on_close = self.closing.append

    def handle(self, connection: Any) -> None:
        for message in connection:
            self.heard(connection, message)

    def heard(self, connection: Any, message: Any) -> Any:
        self.told.append(message)
        if self.method == "notify_waiter":
            gevent.sleep(0.05)
        elif self.method == "close" and message == b"close":
            connection.close()
        elif (
            self.method == "take_unparsed" and connection.protocol != "tcp" and message != b"sound"
        ):
            connection.switch("tcp")
        elif self.method in ("awaits_answer", "is_answering"):
            return "this is for HTTP"
        else:
            connection.send(message)
        return None

    def give(self) -> None:
        """To a receiver that says nothing, so none goes: they are only asked whether they could."""
        ours, self.receiver = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self.service.holder = self.sender = HandoverSender(self.service, lambda: None)
        self.service.on_job_end = self.sender.offer
        self.sender.give_to([ours.detach()])

    def say(self, data: bytes) -> None:
        if isinstance(self.peer, _socket.socket):
            self.peer.send(data)
        else:
            self.peer(data)

    def dial(self, protocol: Any, transport: str, **options: Any) -> Any:
        """Return one that dials us; `say` speaks for the server."""
        kind = _socket.SOCK_DGRAM if transport == "udp" else _socket.SOCK_STREAM
        server = _socket.socket(_socket.AF_INET, kind)
        server.bind(("127.0.0.1", 0))
        self.fars.append(server)
        if transport == "tcp":
            server.listen()
        url = f"{transport}://127.0.0.1:{server.getsockname()[1]}"
        callbacks = {
            "on_message": self.heard,
            "on_close": self.closing.append,
            "on_error": self.refused,
            **options,
        }
        connection = connect(url, protocol=protocol, **callbacks)
        if transport == "tcp":
            self.until(lambda: select.select([server], [], [], 0)[0])
            descriptor, _ = server._accept()  # type: ignore[attr-defined]
            self.peer = _socket.socket(fileno=descriptor)
            self.fars.append(self.peer)
        else:
            self.until(lambda: connection.local_address)
            near = connection.local_address.rpartition(":")
            self.peer = lambda data: server.sendto(data, (near[0], int(near[2])))
        return connection

    def refused(self, connection: Any, code: ErrorCode, message: str) -> None:
        self.told.append((code, message))

    def accepted(self, protocol: Any, variant: str) -> Connection:
        handler = self.handle if "session" in variant else None
        self.worker.connection_handler = handler
        if "recorded" in variant:
            self.service.access = SimpleNamespace(add=lambda entry: None)  # type: ignore[assignment]
        connection = self.connected(
            lockstep(protocol) if "lockstep" in variant else protocol, handler
        )
        self.peer = self.fars[-1]
        return connection

    def check(self, connection: Any) -> None:
        """It has ended as it should, and others are served."""
        self.until(lambda: connection.status == "closed" and connection in self.closing)
        gevent.sleep(0.01)
        assert self.closing == [connection]
        self.check_others()

    def check_others(self) -> None:
        service = self.service
        assert self.exceptions >= 1
        self.until(lambda: not service.pool.active, 1)
        assert not self.wrong
        assert self.is_empty
        assert not service.registry.dialled or not self.closing
        before = len(self.told)
        other = self.connected(Sound)
        self.fars[-1].send(b"sound")
        self.until(lambda: self.told[before:] == [b"sound"])
        if self.method not in ("notify_waiter", "awaits_answer", "is_answering"):
            assert self.fars[-1].recv(100) == b"sound"
        assert other.status == "established"
        assert not self.wrong


@pytest.fixture
def stage(monkeypatch) -> Iterator[Callable[..., Scene]]:
    scenes: list[Scene] = []

    def scene(**limits: Any) -> Scene:
        scenes.append(Scene(monkeypatch, **limits))
        return scenes[-1]

    yield scene
    for each in scenes:
        if each.sender is not None:
            each.sender.close()
            each.receiver.close()
        service = each.service
        for connection in [
            *service.registry.connections.values(),
            *service.registry.dialled.values(),
        ]:
            connection.protocol_machine.__class__.armed = False
            connection.destroy()
        for far in each.fars:
            far.close()
    gevent.sleep(0.01)


# --- what brings each method into play


def speak(scene: Scene, connection: Any) -> None:
    scene.say(b"x")


def speak_in_part(scene: Scene, connection: Any) -> None:
    scene.say(b"part")


def speak_to_a_busy_one(scene: Scene, connection: Any) -> None:
    scene.say(b"x")
    scene.until(lambda: scene.told)
    scene.say(b"y")


def finish(scene: Scene, connection: Any) -> None:
    scene.peer.shutdown(_socket.SHUT_WR)


def ask_to_close(scene: Scene, connection: Any) -> None:
    scene.say(b"close")


def ping(scene: Scene, connection: Any) -> None:
    pings = scene.service.timeouts.pings
    get_hub().loop.run_callback(lambda: [pings.poll() for _ in range(pings.polls)])


def retire(scene: Scene, connection: Any) -> None:
    """After something was heard of it: so it depends on its protocol whether it may go."""
    connection.io.bytes_read = connection.bytes_read or 1
    shutdown = GracefulShutdown(scene.service, 1001, lambda: None)
    get_hub().loop.run_callback(shutdown._for_each, lambda each: each.retire(1001, patient=True))


def wait(scene: Scene, connection: Any) -> None:
    """Time is all that it takes."""


def offer(scene: Scene, connection: Any) -> None:
    get_hub().loop.run_callback(scene.sender.offer, connection)


SERVED = ("plain", "lockstep", "session", "recorded", "recorded session", "plain with a sender")
DIALLED = ("dialled tcp", "dialled udp")

TRIGGERS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "receive_data": (speak, (*SERVED, *DIALLED)),
    "next_event": (speak, (*SERVED, *DIALLED)),
    "data_to_send": (speak, (*SERVED, "dialled tcp")),
    "encode": (speak, (*SERVED, *DIALLED)),
    "waiting_for": (speak_in_part, SERVED),
    "timed_out": (wait, SERVED),
    "ping": (ping, (*SERVED, "dialled tcp")),
    "message_start": (wait, SERVED),
    "awaits_answer": (
        speak,
        ("plain", "lockstep", "recorded", "plain with a sender", "dialled tcp"),
    ),
    "is_answering": (speak, ("plain with a sender",)),
    "is_partial": (retire, SERVED),
    "notify_waiter": (
        speak_to_a_busy_one,
        (*(each for each in SERVED if each != "lockstep"), "dialled tcp"),
    ),
    "take_unparsed": (speak, ("lockstep",)),
}
BYTES = ("data_to_send", "encode", "timed_out", "ping")

LIMITS = {
    "timed_out": {"header_timeout": 0.05},
    "ping": {"ping_interval": 1},
    "message_start": {"message_timeout": 0.5},
}

CASES = [
    (method, fault, variant)
    for method, (_, variants) in TRIGGERS.items()
    for fault in ((RAISES, EXITS, *NO_BYTES) if method in BYTES else (RAISES, EXITS))
    for variant in variants
]


def begin(scene: Scene, method: str, fault: Any, variant: str) -> tuple[Any, Any]:
    scene.method = method
    waits = {"waits": "header"} if method == "timed_out" else {}
    protocol = faulty(method, fault, **waits)
    protocol.armed = method == "timed_out"  # its time runs from the beginning
    if variant in DIALLED:
        connection = scene.dial(protocol, variant[-3:])
        scene.until(lambda: connection.status == "established")
    else:
        connection = scene.accepted(protocol, variant)
        scene.service.timeouts.idle.start(keeps_alive=True)
    if "sender" in variant:
        scene.give()
    gevent.sleep(0)
    protocol.armed = True
    return connection, protocol


@pytest.mark.parametrize(("method", "fault", "variant"), CASES, ids=str)
def test_one_connection_ends(stage, method, fault, variant):
    scene = stage(**LIMITS.get(method, {}))
    connection, protocol = begin(scene, method, fault, variant)
    TRIGGERS[method][0](scene, connection)
    if variant == "dialled udp" and method in ("receive_data", "next_event"):
        scene.until(lambda: scene.exceptions)
        assert connection.status == "established"  # each datagram has a protocol of its own
        protocol.armed = False
        scene.say(b"later")
        scene.until(lambda: scene.told == [b"later"])
        scene.check_others()
    else:
        scene.check(connection)


@pytest.mark.parametrize("fault", [RAISES, *NO_BYTES], ids=str)
@pytest.mark.parametrize("trigger", [finish, ask_to_close])
@pytest.mark.parametrize("variant", [*SERVED, *DIALLED])
def test_close(stage, fault, trigger, variant):
    if variant == "dialled udp" and trigger is finish:
        return  # there is no end of it
    scene = stage()
    connection, _ = begin(scene, "close", fault, variant)
    trigger(scene, connection)
    scene.check(connection)


@pytest.mark.parametrize("variant", [*SERVED, *DIALLED])
def test_wake_at_the_end(stage, variant):
    scene = stage()
    connection, _ = begin(scene, "notify_waiter", RAISES, variant)
    told = []
    scene.service.registry.on_closed.append(lambda: told.append(1))
    connection.destroy()
    assert told
    scene.check(connection)
    assert scene.exceptions == 1


@pytest.mark.parametrize("method", ["configure", "__init__"])
@pytest.mark.parametrize("variant", SERVED[:-1])
def test_one_that_cannot_be_made_is_refused(stage, method, variant):
    scene = stage()
    protocol = faulty(method, RAISES)
    protocol.armed = True
    with pytest.raises(RuntimeError, match="boom"):
        scene.accepted(protocol, variant)
    assert scene.is_empty
    assert not scene.closing


@pytest.mark.parametrize("method", ["configure", "__init__"])
def test_one_that_cannot_be_made_anew(stage, method):
    scene = stage()
    connection, protocol = begin(scene, method, RAISES, "dialled tcp")
    connection.destroy()
    scene.until(lambda: scene.closing)
    with pytest.raises(RuntimeError, match="boom"):
        connection.reconnect()
    assert connection.status == "closed"
    assert not scene.service.registry.dialled
    protocol.armed = False
    connection.reconnect()
    scene.until(lambda: connection.status == "established")


@pytest.mark.parametrize("method", ["configure", "__init__"])
def test_a_datagram_whose_protocol_cannot_be_made_is_lost(stage, method):
    scene = stage()
    connection, protocol = begin(scene, method, RAISES, "dialled udp")
    scene.say(b"lost")
    scene.until(lambda: scene.exceptions == 1)
    protocol.armed = False
    scene.say(b"heard")
    scene.until(lambda: scene.told == [b"heard"])
    assert connection.status == "established"
    scene.check_others()


# --- while it opens


@pytest.mark.parametrize("variant", SERVED[:-1])
def test_waiting_for_at_the_beginning(stage, variant):
    scene = stage()
    protocol = faulty("waiting_for", RAISES)
    protocol.armed = True
    connection = scene.accepted(protocol, variant)
    scene.check(connection)


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        *[
            (method, RAISES)
            for method in ("waiting_for", "data_to_send", "receive_data", "next_event")
        ],
        *[("data_to_send", fault) for fault in NO_BYTES],
    ],
)
def test_a_dialled_one_that_does_not_open_says_why(stage, method, fault):
    scene = stage()
    protocol = faulty(method, fault, waits="handshake")
    protocol.armed = True
    connection = scene.dial(protocol, "tcp")
    if method in ("receive_data", "next_event"):
        scene.say(b"x")
    scene.check(connection)
    (code, message), *_ = scene.told
    assert code == ErrorCode.CONNECT_FAIL
    assert ("RuntimeError: boom" if fault is RAISES else "TypeError: ") in message
    assert connection.connector.failures == 1


@pytest.mark.parametrize("fault", [RAISES, *NO_BYTES], ids=str)
def test_what_was_sent_before_it_was_open_cannot_be_encoded(stage, fault):
    from gworker.protocols.base import Opened

    class Opens(faulty("encode", fault, waits="handshake")):  # type: ignore[misc]
        def next_event(self) -> Any:
            event = super().next_event()
            return Opened(event) if event == b"open" else event

    scene = stage()
    connection = scene.dial(Opens, "tcp")
    connection.send(b"early")
    scene.until(lambda: connection.local_address)
    Opens.__base__.armed = True
    scene.say(b"open")
    scene.check(connection)
    (code, message), *_ = scene.told
    assert code == ErrorCode.CONNECT_FAIL
    assert (
        "RuntimeError: boom" if fault is RAISES else "encode() must return bytes, not "
    ) in message


def test_a_dialled_one_that_is_not_open_is_not_pinged(stage):
    scene = stage(ping_interval=1)
    protocol = faulty("ping", RAISES, waits="handshake")
    connection = scene.dial(protocol, "tcp")
    scene.until(lambda: connection.local_address)
    protocol.armed = True
    ping(scene, connection)
    gevent.sleep(0.01)
    assert connection.status == "connecting"
    assert scene.exceptions == 0


# --- one among many


def test_the_handover_of_all_others_goes_on(stage):
    scene = stage()
    scene.method = "is_answering"
    protocol = faulty("is_answering", RAISES)
    bad, good = scene.accepted(protocol, "plain"), scene.accepted(Sound, "plain")
    protocol.armed = True
    scene.give()
    assert scene.sender is not None
    assert list(scene.sender._queue) == [good.id]
    scene.sender._queue[bad.id] = bad
    scene.until(lambda: bad in scene.closing)
    assert scene.exceptions == 1
    assert not scene.wrong


def test_one_that_cannot_stay_keeps_no_other_from_staying(stage):
    scene = stage()
    bad, good = scene.accepted(Rude, "plain"), scene.accepted(Sound, "plain")
    scene.give()
    assert scene.sender is not None
    scene.receiver.send(b'{"room": 10}')
    scene.until(lambda: bad.migration is not None and good.migration is not None)
    bad.close()
    scene.receiver.close()
    scene.until(lambda: bad in scene.closing and good.status == "established")
    assert scene.exceptions == 1
    assert not scene.wrong


def test_a_process_that_is_out_of_time_quits_whatever_a_protocol_says(stage):
    scene = stage()
    protocol = faulty("is_answering", RAISES)
    bad, good = scene.accepted(protocol, "plain"), scene.accepted(Sound, "plain")
    protocol.armed = True
    ended = []
    shutdown = GracefulShutdown(scene.service, 1001, lambda: ended.append(1))
    get_hub().loop.run_callback(shutdown._run_out_of_time, 1)
    scene.until(lambda: ended)
    assert bad.status == good.status == "closed"
    for each in shutdown._watchers:
        each.stop()
        each.close()


def test_what_encodes_to_no_bytes_is_not_queued_either(stage):
    scene = stage()
    protocol = faulty("encode", 5)
    connection = scene.accepted(protocol, "plain")
    assert connection.send(bytes(900_000))
    waiting = connection.send_queue
    assert waiting
    protocol.armed = True
    with pytest.raises(TypeError, match=r"Faulty\.encode\(\) must return bytes, not int"):
        connection.send(b"x")
    with pytest.raises(TypeError, match=r"Faulty\.encode\(\) must return bytes, not int"):
        connection.close(b"x")
    assert connection.send_queue == waiting


@pytest.mark.parametrize("fault", NO_BYTES, ids=str)
@pytest.mark.parametrize("variant", SERVED)
def test_a_farewell_that_is_no_bytes_behind_what_is_queued(stage, fault, variant):
    scene = stage()
    connection, _ = begin(scene, "close", fault, variant)
    connection.send(bytes(900_000))
    assert connection.send_queue
    ask_to_close(scene, connection)
    scene.check(connection)
