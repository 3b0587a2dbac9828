"""The life of a connection: the order of its callbacks, its one end, and what it costs the
others."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator

import places
import pytest
from instance import DEADLINE, wait_for
from serving import Client, Served, clients, serve

APP = places.app("connections")

pytestmark = pytest.mark.timeout(120)

CALLBACKS = (
    "on_connect",
    "on_message",
    "on_close",
    "on_error",
    "on_buffer_full",
    "on_buffer_drain",
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, APP) as one:
        yield one


# ---- order


def test_callbacks_do_not_overlap_and_keep_the_order(app: Served) -> None:
    with Client(app, "life") as client:
        client.send("sleep 0.2\nsleep 0.1\n")
        client.wait_event("begin 0.2")
        client.send("sleep 0\necho a\n")
        assert [client.line() for _ in range(4)] == ["slept 0.2", "slept 0.1", "slept 0", "a"]
    client.wait_story(
        "connect",
        "begin 0.2",
        "end 0.2",
        "begin 0.1",
        "end 0.1",
        "begin 0",
        "end 0",
        "message a",
        "close closed",
    )


def test_thousands_of_messages_behind_a_slow_one_keep_the_order(app: Served) -> None:
    with Client(app, "life") as client:
        lines = [f"{number:05}" for number in range(20_000)]
        sender = threading.Thread(
            target=client.send, args=("sleep 0.3\n" + "".join(f"x{line}\n" for line in lines),)
        )
        sender.start()
        assert client.line() == "slept 0.3"
        assert [client.line() for _ in lines] == [f"? x{line}" for line in lines]
        sender.join()


def test_messages_wait_for_an_on_connect_that_blocks(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    source = places.app("slow_to_connect")
    with serve(tmp_path_factory, source) as app:
        with Client(app, "text") as client:
            client.send("a\nb\n")
        client.wait_story("connecting", "connected", "a", "b", "close")
        with Client(app, "handled") as client:
            client.send("a\nb\n")
            client.finish()
            assert client.rest() == b"got a\ngot b\n"


# ---- every way to end: on_close exactly once


def test_peer_closes(app: Served) -> None:
    with Client(app, "life") as client:
        client.send("echo a\n")
        client.line()
    client.wait_story("connect", "message a", "close closed")


def test_peer_says_nothing_and_closes(app: Served) -> None:
    with Client(app, "life") as client:
        pass
    client.wait_story("connect", "close closed")


def test_half_close_while_the_answer_is_still_computed(app: Served) -> None:
    with Client(app, "life") as client:
        client.send("sleep 0.2\necho a\n")
        client.finish()
        assert client.rest() == b"slept 0.2\na\n"
    client.wait_story("connect", "begin 0.2", "end 0.2", "message a", "close closed")


def test_reset_by_the_peer(app: Served) -> None:
    with Client(app, "life") as client:
        client.send("echo a\n")
        client.line()
        client.reset()
    client.wait_story("connect", "message a", "close closed")


def test_reset_by_the_peer_while_its_handler_runs(app: Served) -> None:
    with Client(app, "life") as client:
        client.send("sleep 0.3\n")
        client.wait_event("begin 0.3")
        client.reset()
    events = client.wait_event("close closed")
    assert [event for event in events if not event.startswith("error")] == [
        "connect",
        "begin 0.3",
        "end 0.3",
        "close closed",
    ]
    assert "error SEND_FAIL client closed" in events


def test_close_by_the_server(app: Served) -> None:
    with Client(app, "life") as client:
        client.send("close\necho too late\n")
        assert client.rest() == b"bye\n"
    client.wait_story("connect", "close closed")


def test_send_after_close_is_refused(app: Served) -> None:
    with Client(app, "life") as client:
        client.send("close-then-send\n")
        assert client.rest() == b""
    events = client.wait_event("sent False")
    assert events.count("error SEND_FAIL client closed") == 1
    wait_for(lambda: client.events().count("close closed") == 1, "on_close")


def test_destroy(app: Served) -> None:
    with Client(app, "life") as client:
        client.send("destroy\necho too late\n")
        assert client.is_cut()
    client.wait_story("connect", "close closed")


def test_destroy_from_outside_while_the_handler_runs(app: Served) -> None:
    with Client(app, "life") as client, Client(app, "life") as other:
        client.send("sleep 0.3\n")
        client.wait_event("begin 0.3")
        other.send(f"destroy-other {client.port}\n")
        assert client.is_cut()
        events = client.wait_event("close closed")
        assert events.index("end 0.3") < events.index("close closed")
        assert events.count("close closed") == 1


def test_a_broken_protocol_closes(app: Served) -> None:
    with Client(app, "life") as client:
        client.send(b"echo a\n\xff\xfe\necho b\n")
        assert client.rest() == b"a\n"
    client.wait_story("connect", "message a", "close closed")


# ---- exceptions


@pytest.mark.parametrize("name", CALLBACKS)
def test_an_exception_costs_its_own_connection_only(app: Served, name: str) -> None:
    before = app.row("life")
    logged = app.read_log().count(f"exception in {name}\n")
    with Client(app, "life") as bystander:
        if name == "on_connect":
            bystander.send("arm\n")
            assert bystander.line() == "armed"
        with Client(app, "life") as client:
            if name != "on_connect":
                client.send(f"boom {name}\n")
            if name == "on_close":
                client.finish()
            assert client.is_cut()
        ended = "close closed" if name == "on_connect" else "on_close"
        assert client.wait_event(ended).count(ended) == 1
        bystander.send("echo alive\n")
        assert bystander.line() == "alive"
    after = wait_for(
        lambda: (row := app.row("life"))["exceptions"] > before["exceptions"] and row,
        "the exception is counted",
    )
    assert after["exceptions"] == before["exceptions"] + 1
    assert after["pid"] == before["pid"]
    app.wait_log(f"ZeroDivisionError: in {name}")
    assert app.read_log().count(f"exception in {name}\n") == logged + 1
    assert "Traceback (most recent call last)" in app.read_log()
    wait_for(lambda: app.row("life")["connections"] == 0, "no connection is left over")


def test_sys_exit_in_a_handler_is_an_exception_like_others(app: Served) -> None:
    pid = app.row("life")["pid"]
    with Client(app, "life") as client:
        client.send("exit\n")
        assert client.is_cut()
    client.wait_story("connect", "close closed")
    assert app.row("life")["pid"] == pid


def test_what_cannot_be_encoded_raises_in_the_handler(app: Served) -> None:
    with Client(app, "life") as client:
        client.send("unencodable\n")
        assert client.is_cut()
    client.wait_story("connect", "close closed")
    app.wait_log("TypeError: the text protocol sends")


# ---- what belongs to one connection


def test_callbacks_of_one_connection(app: Served) -> None:
    with Client(app, "life") as client, Client(app, "life") as other:
        client.send("own\necho a\n")
        assert client.line() == "own echo a"
        other.send("echo a\n")
        assert other.line() == "a"
    client.wait_story("connect", "own close")
    other.wait_story("connect", "message a", "close closed")


def test_context_belongs_to_one_connection(app: Served) -> None:
    with Client(app, "life") as client, Client(app, "life") as other:
        client.send("remember a\n")
        other.send("remember b\nrecall\n")
        assert other.line() == "b"
        client.send("recall\n")
        assert client.line() == "a"
    with Client(app, "life") as third:
        third.send("recall\n")
        assert third.line() == "nothing"


def test_addresses(app: Served) -> None:
    with Client(app, "life") as client:
        client.send("who\n")
        mine, theirs = client.port, app.port("life")
        assert client.line().split() == [
            "127.0.0.1", str(mine), f"127.0.0.1:{mine}", "127.0.0.1", str(theirs),
            f"127.0.0.1:{theirs}",
            "established", "text", "tcp", "life", "True",
        ]  # fmt: skip


def test_ids_are_unique(app: Served) -> None:
    with clients(app, "life", 20) as some:
        for client in some:
            client.send("id\n")
        assert len({client.line() for client in some}) == len(some)


def test_connections_of_the_worker(app: Served) -> None:
    with Client(app, "limited") as client:
        client.send("ids\n")
        assert client.line() == "1"
        with Client(app, "limited") as second:
            second.send("ids\n")
            assert second.line() == "2"
            second.finish()
            assert second.rest() == b""
        client.send("ids\n")
        assert client.line() == "1"
    wait_for(lambda: app.row("limited")["connections"] == 0, "both gone")


def test_bytes_are_counted(app: Served) -> None:
    before = app.row("life")
    with Client(app, "life") as client:
        client.send("echo 12345\n")
        client.line()
        client.send("bytes\n")
        assert client.line() == f"{len('echo 12345 bytes ')} {len('12345 ')}"

    def grown() -> dict[str, int]:
        after = app.row("life")
        return {key: after[key] - before[key] for key in expected}

    expected = {
        "bytes_read": len("echo 12345 bytes "),
        "bytes_written": len("12345 17 6 "),
        "requests": 2,
    }
    wait_for(lambda: grown() == expected, "the counters have grown by that")


def test_limits_by_default(app: Served) -> None:
    with Client(app, "life") as client:
        client.send("limits\n")
        assert client.line() == f"{1024 * 1024} {10 * 1024 * 1024}"


def test_send_from_another_greenlet(app: Served) -> None:
    with Client(app, "life") as client:
        client.send("spawn-send\n")
        assert client.line() == "from outside"


# ---- context variables, thread locals, and blocking


def test_context_variables_of_one_connection_are_not_seen_by_the_next(app: Served) -> None:
    for number in range(5):
        with Client(app, "life") as client:
            client.send(f"variable {number}\n")
            assert client.line() == "unset"


def test_a_job_has_a_fresh_context_also_on_the_same_connection(app: Served) -> None:
    with Client(app, "life") as client:
        for number in range(5):
            client.send(f"variable {number}\n")
            assert client.line() == "unset"


def test_thread_locals_are_not_shared_by_handlers_that_run_at_once(app: Served) -> None:
    with clients(app, "life", 20) as some:
        for number, client in enumerate(some):
            client.send(f"local {number}\n")
        assert {client.line() for client in some} == {"same"}


def test_blocking_handlers_of_200_connections_overlap(app: Served) -> None:
    with clients(app, "life", 200) as some:
        began = time.monotonic()
        for client in some:
            client.send("sleep 0.5\n")
        assert {client.line() for client in some} == {"slept 0.5"}
        assert time.monotonic() - began < 10  # one after the other they would take 100 s
    wait_for(lambda: app.row("life")["connections"] == 0, "all gone")


# ---- timeouts and the cap


def test_an_idle_connection_is_closed(app: Served) -> None:
    with Client(app, "limited") as client:
        began = time.monotonic()
        assert client.rest() == b""
        assert 0.9 < time.monotonic() - began < 10
    client.wait_story("connect", "close closed")


def test_a_connection_that_talks_or_whose_handler_runs_is_not_idle(app: Served) -> None:
    with Client(app, "limited") as client:
        began = time.monotonic()
        while time.monotonic() - began < 1.5:
            client.send("echo a\n")
            assert client.line() == "a"
            client.send("sleep 0.1\n")
            assert client.line() == "slept 0.1"
        client.send("sleep 1.5\n")
        assert client.rest() == b"slept 1.5\n"


def test_half_a_header_gets_408(app: Served) -> None:
    with Client(app, "web") as client:
        client.send("GET / HTTP/1.1\r\nHost: a\r\n")
        assert client.answer()[0] == 408
        assert client.rest() == b""


def test_dripping_a_header_does_not_extend_its_time(app: Served) -> None:
    with Client(app, "web") as client:
        began = time.monotonic()
        client.send("GET / HTTP/1.1\r\n")
        client.socket.settimeout(0.1)
        answer = b""
        while not answer and time.monotonic() - began < DEADLINE:
            try:
                client.send("X: y\r\n")
                answer = client.socket.recv(4096)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_says_nothing_at_all_is_closed_without_a_word(app: Served) -> None:
    with Client(app, "web") as client:
        assert client.rest() == b""


def test_keep_alive_is_not_under_the_header_timeout(app: Served) -> None:
    with Client(app, "web") as client:
        assert client.http("GET /a HTTP/1.1\r\nHost: a\r\n\r\n")[2] == b"/a"
        client.socket.settimeout(1.2)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
        client.socket.settimeout(DEADLINE)
        assert client.http("GET /b HTTP/1.1\r\nHost: a\r\n\r\n")[2] == b"/b"


def test_handshake_timeout(app: Served) -> None:
    with Client(app, "socks") as silent, Client(app, "socks") as half:
        half.send("GET / HTTP/1.1\r\nHost: a\r\n")
        assert half.answer()[0] == 408
        assert half.rest() == b""
        assert silent.rest() == b""


def test_beyond_max_connections_the_kernel_holds_the_rest(app: Served) -> None:
    with (
        Client(app, "limited") as first,
        Client(app, "limited") as second,
        Client(app, "limited") as third,
    ):
        for client in (first, second):
            client.send("echo a\n")
            assert client.line() == "a"
        third.send("echo b\n")
        third.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            third.socket.recv(1)
        third.socket.settimeout(DEADLINE)
        assert app.row("limited")["connections"] == 2
        first.send("close\n")
        first.rest()
        assert third.line() == "b"
    wait_for(lambda: app.row("limited")["connections"] == 0, "all gone")
    assert re.findall("max_connections.*not accepting", app.read_log())


def test_the_command_line_sets_the_limits(tmp_path_factory: pytest.TempPathFactory) -> None:
    source = """
        worker = Worker("text://127.0.0.1:0", name="text", max_connections=10, max_package_size=100)

        @worker.on_message
        def message(connection, line):
            connection.send(f"{connection.max_package_size} {connection.max_send_buffer_size}")
    """
    options = ("--max-connections", "1", "--max-package-size", "1K", "--max-send-buffer-size", "2K")
    with serve(tmp_path_factory, source, *options) as app, Client(app, "text") as client:
        client.send("\n")
        assert client.line() == "1024 2048"
        with Client(app, "text") as second:
            second.send("\n")
            second.socket.settimeout(0.3)
            with pytest.raises(TimeoutError):
                second.socket.recv(1)


def test_nothing_is_left_over(app: Served) -> None:
    """A connection leaves neither a descriptor nor an entry behind, however it ended."""
    server = app.server("life")
    with Client(app, "life") as client:
        client.send("echo a\n")
        client.line()
        before = server.num_fds()
        for _ in range(30):
            Client(app, "life").reset()
            with Client(app, "life") as polite:
                polite.send("echo a\n")
                polite.line()
            with Client(app, "life") as told:
                told.send("close\n")
                told.rest()
        wait_for(
            lambda: server.num_fds() <= before, f"{server.num_fds()} descriptors, {before} before"
        )
        client.send("ids\n")
        assert client.line() == "1"


def test_the_socket_is_closed_for_the_peer_too(app: Served) -> None:
    with Client(app, "life") as client:
        client.send("close\n")
        client.rest()
        wait_for(lambda: _is_dead(client.socket), "the other side is closed")


def _is_dead(sock: socket.socket) -> bool:
    try:
        sock.sendall(b"x")
    except OSError:
        return True
    return False
