"""A Worker as an app declares it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Container, Iterator
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest

from gworker.app import worker as declarations
from gworker.app.worker import Worker
from gworker.errors import ConfigError, SendBufferFull
from gworker.ipc.declaration import Declaration
from gworker.protocols import PackageProtocol, Protocol, get


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    declarations.declared.clear()
    declarations.running.clear()


def function(*_: Any) -> None:
    pass


def test_defaults() -> None:
    worker = Worker()
    assert worker.declaration() == Declaration(
        name="", listen=None, transport=None, count=None, user=None, group=None,
        reloadable=True, reuse_port=False, backlog=1024, serves="callbacks",
    )  # fmt: skip
    assert worker.limits == {}
    assert worker.declaration().address() is None


def test_everything_is_declared() -> None:
    worker = Worker(
        "text://127.0.0.1:99", name="a", count=3, user="u", group="g", reloadable=False,
        reuse_port=True,
        transport="udp", protocol="text", backlog=7, handover=True, max_connections=5,
        idle_timeout=1.5,
    )  # fmt: skip
    declaration = worker.declaration()
    assert asdict(declaration) == {
        "name": "a", "listen": "text://127.0.0.1:99", "transport": "udp", "count": 3, "user": "u",
        "group": "g",
        "reloadable": False, "reuse_port": True, "backlog": 7, "migration_obstacle": "",
        "speaks": "text", "serves": "callbacks", "hooks": (),
        "limits": {"max_connections": 5, "idle_timeout": 1.5}, "files": (), "unix_file": {},
    }  # fmt: skip
    assert Declaration(**asdict(declaration)) == declaration
    address = declaration.address()
    assert address is not None
    assert (address.transport, address.port) == ("udp", 99)
    assert worker.limits == {"max_connections": 5, "idle_timeout": 1.5}
    assert worker.protocol == "text"


def test_handover() -> None:
    assert Worker().handover == "auto"
    for value in (True, False, "auto"):
        assert Worker(handover=value).handover == value  # type: ignore[arg-type]
    worker = Worker(name="shop")
    for bad in ("yes", "Auto", None, 1, 0):
        message = re.escape(
            f"Worker 'shop': handover={bad!r} is not valid, expected \"auto\", True or False"
        )
        with pytest.raises(ConfigError, match=message):
            Worker(name="shop", handover=bad)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=message):
            worker.handover = bad  # type: ignore[assignment]
    assert worker.handover == "auto"


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", True])
def test_a_bad_count(count: object) -> None:
    with pytest.raises(ConfigError, match="count=.* is not a whole number from 1"):
        Worker("tcp://127.0.0.1:0", count=count)  # type: ignore[arg-type]


@pytest.mark.parametrize("listen", ["tcp://127.0.0.1", "nothing", "tcp://127.0.0.1:99999", ""])
def test_a_bad_address_is_an_error_where_it_stands(listen: str) -> None:
    with pytest.raises(ConfigError, match="address"):
        Worker(listen)


def test_an_unknown_keyword_is_named_with_the_known_ones() -> None:
    with pytest.raises(TypeError, match=r"'on_mesage'.*on_message"):
        Worker("tcp://127.0.0.1:0", on_mesage=function)


def test_only_listen_is_positional() -> None:
    with pytest.raises(TypeError):
        Worker("tcp://127.0.0.1:0", "name")  # type: ignore[misc]


def test_workers_are_remembered_in_order() -> None:
    workers = [Worker(f"tcp://127.0.0.1:{port}") for port in (1, 2, 3)]
    assert declarations.declared == workers


def test_a_worker_that_failed_is_not_declared() -> None:
    with pytest.raises(ConfigError):
        Worker("tcp://127.0.0.1:0", idle_timeout=-1)
    assert declarations.declared == []


@pytest.mark.parametrize("name", ["id", "stopping", "connections"])
def test_outside_a_worker_process_there_is_nothing_to_ask(name: str) -> None:
    with pytest.raises(RuntimeError, match="not running in this process"):
        getattr(Worker("tcp://127.0.0.1:0"), name)


def test_listen_needs_a_process_too() -> None:
    with pytest.raises(RuntimeError, match="works inside a worker process"):
        Worker("tcp://127.0.0.1:0").listen()


def test_inside_a_worker_process_the_runtime_answers() -> None:
    class Fake:
        id = 3
        stopping = True
        connections: dict[int, Any] = {1: "a"}  # noqa: RUF012
        stopped = 0

        def listen(self, _declared: Worker, url: str | None) -> str:
            return f"listening on {url}"

        def stop(self) -> None:
            self.stopped += 1

    worker, runtime = Worker("tcp://127.0.0.1:0"), Fake()
    declarations.running.append((worker, runtime))
    assert (worker.id, worker.stopping, worker.connections) == (3, True, {1: "a"})
    assert worker.listen("tcp://127.0.0.1:1") == "listening on tcp://127.0.0.1:1"
    Worker.stop_all()
    assert runtime.stopped == 1
    with pytest.raises(RuntimeError, match="not running"):
        _ = Worker("tcp://127.0.0.1:0").id


def test_run_all_needs_a_script() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from gworker import Worker; Worker.run_all()"],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode != 0
    assert "needs a script" in done.stderr


def test_declaring_a_worker_imports_no_gevent() -> None:
    code = (
        "import sys; from gworker import Worker; Worker('http://127.0.0.1:0'); print('gevent' "
        "in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "False\n"


def test_repr_names_it() -> None:
    assert repr(Worker("tcp://127.0.0.1:1", name="a")) == "<Worker a tcp://127.0.0.1:1>"
    assert "without a socket" in repr(Worker())


def test_a_misspelt_keyword_is_refused_with_the_nearest() -> None:
    with pytest.raises(TypeError, match="'idle_timout'; did you mean idle_timeout?"):
        Worker(idle_timout=3)
    with pytest.raises(TypeError, match="'nam'; did you mean name?"):
        Worker(nam="x")


# ---- broadcasts: which connections get the message, and how often it is encoded


class Listener:
    """As much of a connection as a broadcast sees."""

    def __init__(
        self, protocol: Protocol, accepts_unsolicited: bool = True, takes: bool = True
    ) -> None:
        self.accepts_unsolicited = accepts_unsolicited
        self.sent: list[Any] = []
        self._protocol = protocol
        self._takes = takes

    @property
    def encoding(self) -> Any:
        return self._protocol.encoding

    def encode(self, message: Any) -> bytes:
        return self._protocol.encode(message)

    def send(self, data: Any, raw: bool = False) -> bool:
        self.sent.append(data if raw else self._protocol.encode(data))
        return self._takes


class Counted(get("text")):  # type: ignore[misc]
    encoded = 0

    def encode(self, message: Any) -> bytes:
        Counted.encoded += 1
        encoded: bytes = super().encode(message)
        return encoded


class Own(PackageProtocol):
    def package_length(self, buffer: bytes) -> int:
        return 1

    def decode(self, package: bytes) -> bytes:
        return package

    def encode(self, message: Any) -> bytes:
        Counted.encoded += 1
        return b"<" + message.encode() + b">"


@pytest.fixture(autouse=True)
def fresh() -> None:
    Counted.encoded = 0


def broadcast(people: list[Any], message: Any, exclude: Container[Any] = ()) -> int:
    """How many of `people` take the message of a Worker whose connections they are."""
    worker = Worker()
    runtime: Any = SimpleNamespace(connections=dict(enumerate(people)))
    declarations.running[:] = [(worker, runtime)]
    return worker.broadcast(message, exclude)


def test_all_get_it_and_it_is_encoded_once() -> None:
    people: list[Any] = [Listener(Counted(100)) for _ in range(50)]
    assert broadcast(people, "hello") == 50
    assert [each.sent for each in people] == [[b"hello\n"]] * 50
    assert Counted.encoded == 1


def test_each_kind_is_encoded_for_itself() -> None:
    text, frame, own = Listener(Counted(100)), Listener(get("frame")(100)), Listener(Own(100))
    people: list[Any] = [text, frame, own, Listener(Own(100))]
    assert broadcast(people, "hello") == 4
    assert (text.sent, frame.sent, own.sent) == ([b"hello\n"], [b"\0\0\0\x09hello"], [b"<hello>"])
    assert Counted.encoded == 3, "what a user's protocol makes of a message is its own affair"


def test_who_does_not_get_it() -> None:
    closing, left_out = Listener(Counted(100), accepts_unsolicited=False), Listener(Counted(100))
    full = Listener(Counted(100), takes=False)
    people: list[Any] = [closing, left_out, full]
    assert broadcast(people, "hello", exclude=[left_out]) == 0
    assert (closing.sent, left_out.sent, full.sent) == ([], [], [b"hello\n"])


def test_what_cannot_be_sent_is_told_at_once() -> None:
    people: list[Any] = [Listener(Counted(100)), Listener(Counted(100))]
    with pytest.raises(ValueError, match="one line"):
        broadcast(people, "two\nlines")
    assert [each.sent for each in people] == [[], []]


def test_a_fault_of_one_keeps_it_from_no_other() -> None:
    class Broken(Own):
        def encode(self, message: Any) -> bytes:
            raise ValueError("out of ink")

    people: list[Any] = [Listener(Own(100)), Listener(Broken(100)), Listener(Own(100))]
    with pytest.raises(ValueError, match="out of ink"):
        broadcast(people, "hello")
    assert [each.sent for each in people] == [[b"<hello>"], [], [b"<hello>"]]


def test_answers_and_handshakes_are_not_for_broadcasts() -> None:
    """A message that is sent to all must not become the answer to a request."""
    assert [get(name)(100).accepts_unsolicited for name in ("http", "websocket", "text")] == [
        False,
        False,
        True,
    ]


def test_before_its_handshake_a_websocket_keeps_so_much_and_no_more() -> None:
    peer = get("websocket")(100)
    with pytest.raises(SendBufferFull):
        for _ in range(100):
            assert peer.encode(b"x" * 100_000) == b""
    assert len(peer._output) < 2 * 1024 * 1024  # type: ignore[attr-defined]


def test_a_websocket_that_is_not_open_yet_encodes_for_itself() -> None:
    assert get("websocket")(100).encoding is None
