"""Publishing from outside: over the broker process of an instance, found by its socket."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import places
import pytest
import servers
from broker_faults import BrokerProcess
from broker_process import Process
from instance import effective_user

from gworker import BrokerDown, BrokerError, Publisher
from gworker.broker.local import LocalBroker
from gworker.broker.redis.broker import RedisBroker
from gworker.broker.url import parse
from gworker.config.file_names import broker_path
from gworker.messages import frame
from gworker.messages.declarations import checked
from gworker.messages.publisher import FRESH_SECONDS
from gworker.messages.publishing import Published
from gworker.messages.queries import Member

NAME = "shop:app"
BY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BrokerProcess]:
    """The broker of an instance whose files are in `tmp_path`."""
    process = BrokerProcess()
    os.symlink(process.path, broker_path(str(tmp_path), NAME))
    yield process
    process.close()


class Worker(Process):
    """A process of the instance."""

    def declare(self, pattern: str, generation: int = 1, **what: Any) -> None:
        text = checked(pattern, **what).text.encode()
        assert self.call("declare", b"", pattern.encode(), text, generation) == b""

    def heard_on(self, channel: bytes, count: int) -> list[Any]:
        payloads = self.wait_for_payloads(channel, count)
        return [frame.decoded(frame.parsed_payload(each).body).message for each in payloads]


@pytest.fixture
def worker(server: BrokerProcess) -> Iterator[Worker]:
    made = Worker(LocalBroker(server.path))
    yield made
    made.broker.close()


@pytest.fixture
def publisher(server: BrokerProcess, tmp_path: Path) -> Iterator[Publisher]:
    with Publisher(cluster=NAME, runtime_dir=str(tmp_path)) as made:
        yield made


def test_messages_reach_groups_users_and_connections(worker: Worker, publisher: Publisher) -> None:
    channels = [b"g:room", b"g:hall", b"u:7", b"i:abc", b"b:", b"b:chat"]
    worker.subscribe(*channels)
    assert publisher.state == "down"
    assert publisher.publish("room", "one") == Published("", 1)
    assert publisher.state == "up"
    assert publisher.publish("nowhere", "one") == Published("", 0)
    assert set(publisher.publish_many(["room", "hall"], {"two": 2})) == {"room", "hall"}
    assert publisher.send_to_user(7, b"\0") == 1
    assert publisher.send_to_user("8", "") == 0
    assert [publisher.send("abc.1", "x"), publisher.send("gone.1", "x")] == [True, False]
    assert publisher.broadcast("all") == publisher.broadcast(["chat"], worker="chat") == 1
    assert worker.heard_on(b"g:room", 2) == ["one", {"two": 2}]
    heard = [worker.heard_on(channel, 1) for channel in channels[1:]]
    assert heard == [[{"two": 2}], [b"\0"], ["x"], ["all"], [["chat"]]]


def test_orders_reach_them(worker: Worker, publisher: Publisher) -> None:
    worker.subscribe(b"g:room", b"u:ann", b"i:abc")
    publisher.close(group="room", code=4000, reason="over")
    publisher.disband("room")
    publisher.join("hall", user="ann")
    publisher.leave("hall", user="ann")
    publisher.close(connection="abc.1")
    assert len(worker.wait_for_payloads(b"g:room", 2)) == 2
    assert len(worker.wait_for_payloads(b"u:ann", 2)) == 2
    assert len(worker.wait_for_payloads(b"i:abc", 1)) == 1
    with pytest.raises(TypeError, match="exactly one"):
        publisher.close()


def test_what_holds_for_a_group_is_what_workers_have_declared(
    worker: Worker, publisher: Publisher
) -> None:
    worker.declare("room:*", mode="recoverable", history=2, presence=True)
    worker.declare("price", mode="latest")
    positions = [publisher.publish("room:1", str(number)).position for number in range(3)]
    assert publisher.position("room:1") == positions[-1]
    assert publisher.history("room:1") == [(positions[1], "1"), (positions[2], "2")]
    assert publisher.history("room:1", since=positions[1]) == [(positions[2], "2")]
    twice = [publisher.publish("room:1", "x", idempotency_key="order 7") for _ in range(2)]
    assert [each.duplicate for each in twice] == [False, True]
    assert twice[0].position == twice[1].position
    for number in range(2):
        publisher.publish("price", [number], key="gold")
    assert [message for _, message in publisher.history("price")] == [[1]]
    assert publisher.count("room:1") == 0
    with pytest.raises(ValueError, match="presence=True"):
        publisher.members("price")


def test_a_declaration_that_is_new_is_known_within_a_moment(
    worker: Worker, publisher: Publisher
) -> None:
    worker.declare("room", mode="fleeting")
    assert publisher.publish("room", "x").position == ""
    worker.declare("room", mode="recoverable", generation=2)
    time.sleep(FRESH_SECONDS)
    assert publisher.publish("room", "x").position


def test_it_knows_who_is_there(worker: Worker, publisher: Publisher) -> None:
    worker.declare("room", presence=True)
    for channel, info in ((b"g:room", b'{"name":"Ann"}'), (b"u:ann", b"")):
        worker.call("enter", channel, worker.name, b"", b"abc.1", b"ann", info, b"")
    assert publisher.members("room") == [Member("abc.1", "ann", {"name": "Ann"})]
    assert publisher.count("room") == 1
    assert [publisher.is_online("ann"), publisher.is_online("bob")] == [True, False]
    assert publisher.connections("ann") == ["abc.1"]


def test_data_is_shared(worker: Worker, publisher: Publisher) -> None:
    publisher.data.set("stock", {"tea": 3})
    assert worker.call("get", b"d:stock") == b'{"tea":3}'
    assert publisher.data.increment("visits") == 1
    assert sorted(publisher.data.keys()) == ["stock", "visits"]


def test_threads_share_one(worker: Worker, publisher: Publisher) -> None:
    def publish(name: str) -> None:
        for number in range(100):
            publisher.publish("room", f"{name} {number}")

    worker.subscribe(b"g:room")
    threads = [threading.Thread(target=publish, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    heard = worker.heard_on(b"g:room", 400)
    assert [each for each in heard if each[0] == "c"] == [f"c {number}" for number in range(100)]


def publish_in_children(worker: Worker, *where: str) -> None:
    worker.subscribe(b"g:room")
    program = places.TESTS / "programs" / "publishes_in_children.py"
    done = subprocess.run(
        [sys.executable, str(program), *where, "20"],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("20\n", "")
    heard = worker.heard_on(b"g:room", 42)
    assert {heard[0], heard[-1]} == {"parent", "parent again"}
    assert len(set(heard)) == 42


def test_children_connect_anew(worker: Worker, tmp_path: Path) -> None:
    publish_in_children(worker, "local", NAME, str(tmp_path))


def test_over_redis(tmp_path: Path) -> None:
    with servers.start_redis(tmp_path) as port:
        url = f"redis://127.0.0.1:{port}/0"
        worker = Worker(RedisBroker(parse(url), "shop"))
        try:
            publish_in_children(worker, url, "shop", str(tmp_path))
            worker.declare("kept", mode="recoverable")
            with Publisher(url, cluster="shop") as publisher:
                assert publisher.publish("kept", "x").position
                assert [message for _, message in publisher.history("kept")] == ["x"]
            with Publisher(url, cluster="other") as publisher:
                assert publisher.publish("room", "x") == Published("", 0)
        finally:
            worker.broker.close()


def test_a_broker_that_is_started_anew_is_found_again(
    server: BrokerProcess, publisher: Publisher
) -> None:
    publisher.publish("room", "x")
    server.kill()
    began = time.monotonic()
    with pytest.raises(BrokerDown, match=f"the broker of the instance {NAME}: "):
        for _ in range(1000):
            publisher.publish("room", "x")
    assert time.monotonic() - began < 3
    server.start()
    deadline = time.monotonic() + 5
    while publisher.state != "up":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    publisher.publish("room", "x")


def test_it_connects_again_after_disconnect(worker: Worker, publisher: Publisher) -> None:
    for _ in range(2):
        publisher.publish("room", "x")
        publisher.disconnect()
        publisher.disconnect()
        assert publisher.state == "down"


# ---- what is wrong


def test_an_instance_that_does_not_run(tmp_path: Path) -> None:
    publisher = Publisher("local", cluster="shop", runtime_dir=str(tmp_path))
    with pytest.raises(BrokerDown) as caught:
        publisher.publish("room", "x")
    assert str(caught.value) == (
        f"the instance shop is not running: there is no shop.broker in {tmp_path}"
    )
    assert not caught.value.uncertain


def test_an_instance_that_has_left_its_socket(server: BrokerProcess, tmp_path: Path) -> None:
    server.kill()
    server.listener.close()
    with Publisher(cluster=NAME, runtime_dir=str(tmp_path)) as publisher:
        for _ in range(2):
            with pytest.raises(BrokerDown, match=f"instance {NAME}: Connection refused"):
                publisher.publish("room", "x")


@BY_ROOT
def test_a_socket_that_this_user_may_not_use(
    server: BrokerProcess, tmp_path: Path, publisher: Publisher
) -> None:
    for directory in (tmp_path, *tmp_path.parents[:3], server.directory.name):
        os.chmod(directory, 0o755)
    os.chmod(server.path, 0o600)
    with (
        effective_user(65534),
        pytest.raises(BrokerError, match="see --broker-mode and --broker-g"),
    ):
        publisher.publish("room", "x")
    os.chmod(tmp_path, 0o700)
    with effective_user(65534), pytest.raises(BrokerError, match="may not enter"):
        publisher.publish("room", "x")


@pytest.mark.parametrize(
    ("broker", "cluster", "said"),
    [
        ("redis://:secret@", "shop", "broker 'redis://***@' is not valid, expected a host"),
        ("mysql://h", "shop", "broker 'mysql://h' is not valid, expected local, redis://"),
        ("redis://h", "", "cluster '' is not valid, expected 1 to 64 letters"),
        ("redis://h", "my shop", "cluster 'my shop' is not valid"),
        ("memory", "shop", "broker memory: it is in one process alone"),
    ],
)
def test_what_can_never_work_is_refused_at_once(broker: str, cluster: str, said: str) -> None:
    with pytest.raises(BrokerError) as caught:
        Publisher(broker, cluster=cluster)
    assert str(caught.value).startswith(said)


def test_a_redis_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gworker.messages.publisher.find_spec", lambda name: None)
    with pytest.raises(BrokerError, match="redis is not installed: pip install 'gworker.redis.'"):
        Publisher("redis://:secret@h", cluster="shop")


def test_a_redis_that_is_not_there() -> None:
    with Publisher("redis://:secret@127.0.0.1:1", cluster="shop") as publisher:
        began = time.monotonic()
        for _ in range(2):
            with pytest.raises(BrokerDown) as caught:
                publisher.publish("room", "x")
            assert "secret" not in str(caught.value)
        assert time.monotonic() - began < 3
