"""`server`: a broker process and what its clients see of it, over its own socket."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from broker_faults import BrokerProcess, until
from hiredis import PushNotification, Reader, ReplyError

from gworker.broker import resp


class Client:
    """A link that does as it is told."""

    def __init__(self, path: str, name: bytes = b"") -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(5)
        self.socket.connect(path)
        self._reader: Any = Reader(notEnoughData=self)
        if name:
            assert self.ask(b"HELLO", name, resp.VERSION) == b"OK"

    def send(self, *command: bytes) -> None:
        self.socket.sendall(resp.command(*command))

    def read(self) -> Any:
        """The next reply or push; "" at the end of the connection."""
        while (reply := self._reader.gets()) is self:
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                return ""
            self._reader.feed(data)
        return reply

    def ask(self, *command: bytes) -> Any:
        self.send(*command)
        return self.read()


@pytest.fixture
def process() -> Iterator[BrokerProcess]:
    process = BrokerProcess()
    yield process
    process.close()


@pytest.fixture
def connect(process) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def connect(name: bytes = b"one") -> Client:
        clients.append(Client(process.path, name))
        return clients[-1]

    yield connect
    for client in clients:
        client.socket.close()


def stats(client: Client) -> dict[bytes, int]:
    return dict(client.ask(b"STATS", b""))


def cpu_seconds(process: BrokerProcess) -> float:
    with open(f"/proc/{process.popen.pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


def test_a_message_is_a_push_to_each_subscriber_before_the_publisher_has_its_reply(connect):
    one, two = connect(b"one"), connect(b"two")
    assert one.ask(b"SUBSCRIBE", b"g:a", b"g:b") == b"OK"
    assert two.ask(b"SUBSCRIBE", b"g:a") == b"OK"
    one.send(b"PUBLISH", b"g:a", b"body")
    push = one.read()
    assert isinstance(push, PushNotification)
    assert push == two.read() == [b"message", b"g:a", b"\0body"]
    assert one.read() == 2
    assert one.ask(b"UNSUBSCRIBE", b"g:a", b"g:never") == b"OK"
    assert two.ask(b"PING") == b"PONG"
    two.send(b"PUBLISH", b"g:a", b"")
    assert [two.read(), two.read()] == [[b"message", b"g:a", b"\0"], 1]
    assert stats(one) == {
        b"published": 2,
        b"routed": 3,
        b"clients": 2,
        b"channels": 2,
        b"waiting": 0,
    }


def test_commands_in_one_write_are_done_in_order_however_they_are_cut(connect):
    client = connect()
    client.send(b"SUBSCRIBE", b"g:a")
    data = b"".join(resp.command(b"PUBLISH", b"g:a", b"%d" % number) for number in range(2000))
    assert client.read() == b"OK"
    for start in range(0, len(data), 1013):
        client.socket.sendall(data[start : start + 1013])
    for number in range(2000):
        assert client.read() == [b"message", b"g:a", b"\0%d" % number]
        assert client.read() == 1


def test_a_link_that_ends_has_no_subscriptions_left(connect):
    one, two = connect(b"one"), connect(b"two")
    two.ask(b"SUBSCRIBE", b"g:a")
    assert one.ask(b"PUBLISH", b"g:a", b"") == 1
    two.socket.close()
    until(lambda: stats(one)[b"clients"] == 1)
    assert one.ask(b"PUBLISH", b"g:a", b"") == 0
    assert stats(one)[b"channels"] == 0


def test_a_link_that_ends_has_no_members_left(connect):
    one, two = connect(b"one"), connect(b"two")
    assert two.ask(b"ENTER", b"g:a", b"two", b"", b"member", b"identity", b"{}", b"") == 1
    assert one.ask(b"MEMBERS", b"g:a", b"0") == [[b"member", b"identity", b"{}"]]
    two.socket.close()
    until(lambda: one.ask(b"MEMBERS", b"g:a", b"0") == [], 1)
    assert one.ask(b"COUNT", b"g:a") == 0


def test_leaves_are_out_although_the_process_that_asked_for_them_ends(connect):
    one, other = connect(b"one"), connect(b"other")
    one.ask(b"SUBSCRIBE", b"g:a")
    assert one.ask(b"ENTER", b"g:a", b"one", b"", b"m", b"anna", b"", b"anna") == 1
    assert one.ask(b"EXIT", b"g:a", b"one", b"m") == 1
    time.sleep(3.1)
    other.send(b"PUBLISH_DUE_LEAVES", b"", b"<", b",", b">")
    other.socket.close()
    assert one.read() == [b"message", b"g:a", b"\0<anna>"]


def test_a_client_that_does_not_read_is_cut_and_the_others_hear_everything(process, connect):
    one, slow, other = connect(b"one"), connect(b"slow"), connect(b"other")
    slow.ask(b"SUBSCRIBE", b"g:a")
    other.ask(b"SUBSCRIBE", b"g:a")
    body = os.urandom(1 << 20)
    receivers = []
    for _ in range(24):
        receivers.append(one.ask(b"PUBLISH", b"g:a", body))
        assert other.read() == [b"message", b"g:a", b"\0" + body]
    assert receivers[:15] == [2] * 15
    assert receivers[-1] == 1
    log = until(process.log.read_text)
    assert "cuts the client slow: it does not read, and" in log
    for _ in range(24):
        if slow.read() == "":
            break
    else:
        pytest.fail("it is not cut")


def test_a_client_that_reads_late_hears_everything_and_costs_nothing_after_that(process, connect):
    one, slow = connect(b"one"), connect(b"slow")
    slow.ask(b"SUBSCRIBE", b"g:a")
    bodies = [os.urandom(1 << 20) for _ in range(8)]
    for body in bodies:
        assert one.ask(b"PUBLISH", b"g:a", body) == 1
    assert 6 << 20 < stats(one)[b"waiting"] < 9 << 20
    for body in bodies:
        assert slow.read() == [b"message", b"g:a", b"\0" + body]
    assert stats(one)[b"waiting"] == 0
    before = cpu_seconds(process)
    with pytest.raises(TimeoutError):
        slow.socket.settimeout(0.5)
        slow.read()
    assert cpu_seconds(process) - before < 0.05


def test_a_client_that_asks_faster_than_it_reads_gets_every_reply(process, connect):
    one, eager = connect(b"one"), connect(b"eager")
    body = os.urandom(1 << 20)
    one.ask(b"KEEP", b"g:a", b"recoverable", b"9", b"0", b"", b"", body)
    history = resp.command(b"HISTORY", b"g:a", b"recoverable", b"", b"0", b"0", b"0")
    eager.socket.sendall(history * 100)
    until(lambda: stats(one)[b"waiting"] > 1 << 20)
    assert stats(one)[b"waiting"] < 8 << 20
    for _ in range(100):
        assert [entry[1] for entry in eager.read()[3]] == [body]
    assert eager.ask(b"PING") == b"PONG"


@pytest.mark.parametrize(
    "data",
    [
        b"*1\r\n$x\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b":1\r\n",
        b"*0\r\n",
        b"*1\r\n*0\r\n",
        resp.command(b"HELLO"),
        b"*2\r\n$3\r\nSET\r\n$99999999\r\n" + bytes(5 << 20),
    ],
    ids=["length", "http", "no command", "empty", "array", "arguments", "too long"],
)
def test_what_is_no_command_ends_its_link_alone(process, connect, data):
    one = connect()
    other = Client(process.path)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        other.socket.sendall(data)
    assert other.read() == ""
    other.socket.close()
    assert one.ask(b"PING") == b"PONG"
    assert "cuts the client without a name: " in process.log.read_text()


def test_nothing_is_done_before_hello(process):
    client = Client(process.path)
    reply = client.ask(b"PUBLISH", b"g:a", b"")
    assert isinstance(reply, ReplyError)
    assert "no operation" in str(reply)
    assert client.ask(b"HELLO", b"one", resp.VERSION) == b"OK"
    assert client.ask(b"PUBLISH", b"g:a", b"") == 0
    assert isinstance(client.ask(b"HELLO", b"two", resp.VERSION), ReplyError)
    client.socket.close()


def test_another_version_is_told_so_and_the_process_ends_for_the_next_one(process, connect):
    one, other = connect(), Client(process.path)
    reply = other.ask(b"HELLO", b"other", b"0")
    assert isinstance(reply, ReplyError)
    assert f"speaks version {resp.VERSION.decode()}" in str(reply)
    assert process.popen.wait(5) == 0
    assert one.read() == other.read() == ""
    waits = socket.socket(socket.AF_UNIX)
    waits.connect(process.path)  # no process accepts: the listener is still there
    process.start()
    waits.sendall(resp.command(b"HELLO", b"one", resp.VERSION))
    waits.settimeout(5)
    assert waits.recv(100) == resp.OK
    waits.close()
    other.socket.close()


def test_sigterm_ends_it(process, connect):
    one = connect()
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(5) == 0
    assert one.read() == ""


def test_without_a_descriptor_left_a_client_waits_until_another_one_ends(process, connect):
    one = connect()
    open_files = len(os.listdir(f"/proc/{process.popen.pid}/fd"))
    # A descriptor below the limit may be free.
    resource.prlimit(process.popen.pid, resource.RLIMIT_NOFILE, (open_files, open_files))
    more = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    for end in more:
        end.settimeout(5)
        end.connect(process.path)
        end.sendall(resp.command(b"HELLO", b"more", resp.VERSION))
    until(lambda: "takes no further client: Too many open files" in process.log.read_text())
    before = cpu_seconds(process)
    assert one.ask(b"PING") == b"PONG"
    assert cpu_seconds(process) - before < 0.05
    one.socket.close()
    for end in more:
        assert end.recv(100) == resp.OK
        end.close()


@pytest.fixture
def hasty() -> Iterator[BrokerProcess]:
    """One that cuts clients soon."""
    process = BrokerProcess(lease=0.6)
    yield process
    process.close()


def test_a_client_that_says_nothing_is_cut(hasty):
    silent, speaks = Client(hasty.path, b"silent"), Client(hasty.path, b"speaks")
    with silent.socket, speaks.socket:
        assert silent.ask(b"ENTER", b"g:room", b"silent", b"", b"m", b"anna", b"", b"leave") == 1
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            assert speaks.ask(b"PING") == b"PONG"
            time.sleep(0.05)
        assert silent.read() == ""
        assert speaks.ask(b"COUNT", b"g:room") == 0
    assert "cuts the client silent: it has said nothing for 0.6 s" in hasty.log.read_text()


def test_a_broker_that_was_stopped_takes_nobody_for_silent(hasty):
    client = Client(hasty.path, b"one")
    with client.socket:
        os.kill(hasty.popen.pid, signal.SIGSTOP)
        time.sleep(1)
        os.kill(hasty.popen.pid, signal.SIGCONT)
        time.sleep(0.3)
        assert client.ask(b"COUNT", b"g:room") == 0
