"""Connection handlers, socketserver's handlers, UDP, unix sockets, no sockets, and listeners opened
later."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import places
import pytest
import trustme
from instance import DEADLINE, wait_for
from serving import Client, Served, clients, serve

pytestmark = pytest.mark.timeout(120)

SESSIONS = places.app("sessions")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, SESSIONS) as one:
        yield one


# ---- connection handlers


def test_iteration_ends_when_the_peer_has_finished(app: Served) -> None:
    with Client(app, "session") as client:
        client.send("a\nb\n")
        client.finish()
        assert client.rest() == b"? a\n? b\n"
    client.wait_story("connect", "begin", "done", "close")


def test_recv_one_by_one(app: Served) -> None:
    with Client(app, "session") as client:
        client.send("recv\n")
        client.send("a\n")
        client.send("b\n")
        assert client.line() == "a and b"


def test_after_the_end_recv_gives_none_again_and_again(app: Served) -> None:
    with Client(app, "session") as client:
        client.send("last\na\n")
        client.finish()
        assert client.rest() == b"goodbye\n"
    client.wait_story("connect", "begin", "end None None", "done", "close")


def test_recv_times_out_and_goes_on(app: Served) -> None:
    with Client(app, "session") as client:
        client.send("timeout 0.05\n")
        assert client.line().startswith("TimeoutError no message within 0.05 s")
        client.send("a\n")
        assert client.line() == "? a"


def test_a_timeout_that_escapes_is_an_exception(app: Served) -> None:
    before = app.row("session")["exceptions"]
    with Client(app, "session") as client:
        client.send("timeout-escapes\n")
        assert client.rest() == b""
    assert app.row("session")["exceptions"] == before + 1


def test_recv_with_a_message_and_a_timeout_at_the_same_moment(app: Served) -> None:
    """Whichever wins, nothing of it strikes the handler later, in whatever it does next."""
    with Client(app, "session") as client:
        client.send("spin\n")
        client.wait_event("spin")
        client.send("x\n")
        assert client.line() == "True True"


def test_recv_belongs_to_the_handler(app: Served) -> None:
    with Client(app, "session") as client:
        client.send("elsewhere\n")
        assert client.line().startswith("RuntimeError recv() belongs to")


def test_returning_closes(app: Served) -> None:
    with Client(app, "session") as client:
        client.send("return\ntoo late\n")
        assert client.rest() == b""
    client.wait_story("connect", "begin", "close")


def test_closing_ends_the_iteration(app: Served) -> None:
    with Client(app, "session") as client:
        client.send("close\na\n")
        assert client.rest() == b"bye\n"
    wait_for(lambda: "done" in client.events(), "the handler ends")
    assert sorted(client.events()) == sorted(
        ["connect", "begin", "after close None", "done", "close"]
    )


def test_an_exception_in_a_handler_costs_its_connection(app: Served) -> None:
    before = app.row("session")
    with Client(app, "session") as bystander, Client(app, "session") as client:
        client.send("raise\n")
        assert client.rest() == b""
        client.wait_story("connect", "begin", "close")
        bystander.send("a\n")
        assert bystander.line() == "? a"
    app.wait_log("ZeroDivisionError: in the handler")
    after = app.row("session")
    assert after["exceptions"] == before["exceptions"] + 1
    assert after["pid"] == before["pid"]


def test_reset_while_a_handler_waits(app: Served) -> None:
    with Client(app, "session") as client:
        client.send("a\n")
        client.line()
        client.reset()
    client.wait_story("connect", "begin", "done", "close")


def test_messages_that_came_before_the_end_are_still_delivered(app: Served) -> None:
    with Client(app, "session") as client:
        client.send("sleep 0.2\na\nb\n")
        client.finish()
        assert client.rest() == b"slept\n? a\n? b\n"


def test_handlers_of_many_connections_wait_side_by_side(app: Served) -> None:
    with clients(app, "session", 50) as some:
        began = time.monotonic()
        for client in some:
            client.send("sleep 0.5\n")
        assert {client.line() for client in some} == {"slept"}
        assert time.monotonic() - began < 10
        assert app.row("session")["connections"] == 50
    wait_for(lambda: app.row("session")["connections"] == 0, "all gone")


def test_a_thousand_messages_at_once(app: Served) -> None:
    with Client(app, "session") as client:
        client.send("".join(f"{number}\n" for number in range(1000)))
        assert [client.line() for _ in range(1000)] == [f"? {number}" for number in range(1000)]


@pytest.mark.parametrize("size", [100_000, 300_000, 3_000_000])
def test_a_large_message(app: Served, size: int) -> None:
    with Client(app, "frame") as client:
        client.send((size + 4).to_bytes(4) + bytes(size))
        client.send((5).to_bytes(4) + b"x")
        assert client.exactly(4 + len(str(size)))[4:] == str(size).encode()
        assert client.exactly(5)[4:] == b"1"


def test_a_websocket_handler_that_only_sends(app: Served) -> None:
    with Client(app, "sock") as client:
        client.send(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        assert client.exactly(len(b"\x81\x03one")) == b"\x81\x03one"
        assert client.exactly(len(b"\x81\x03two\x81\x05three")) == b"\x81\x03two\x81\x05three"
        assert client.exactly(4) == b"\x88\x02\x03\xe8"


def test_an_idle_connection_with_a_handler_is_closed(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    source = """
        worker = Worker("text://127.0.0.1:0", name="text", idle_timeout=0.5, handler=lambda c: [*c])
    """
    with serve(tmp_path_factory, source) as app, Client(app, "text") as client:
        client.send("a\n")
        client.socket.settimeout(10)
        assert client.rest() == b""


def test_a_stop_does_not_wait_for_a_handler_that_only_waits(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Connections with a handler are retired politely: recv() gives None, and the handler may say
    goodbye."""
    source = """
        worker = Worker("text://127.0.0.1:0", name="text")

        @worker.handler
        def serve(connection):
            for line in connection:
                connection.send(line)
            record(connection, "done")
    """
    with serve(tmp_path_factory, source) as app, Client(app, "text") as client:
        client.send("a\n")
        assert client.line() == "a"
        began = time.monotonic()
        app.signal(signal.SIGTERM)
        client.socket.settimeout(15)
        assert client.rest() == b""
        assert app.wait_exit() == 0
        assert time.monotonic() - began < 15  # the graceful timeout is 30
        client.wait_story("done")


# ---- socketserver


LEGACY = places.app("socketserver_handlers")


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, LEGACY) as one:
        yield one


def test_stream_request_handler(legacy: Served) -> None:
    with Client(legacy, "echo") as client:
        client.send("a\nwho\n")
        assert client.line() == "A"
        port = legacy.port("echo")
        assert client.line() == f"('127.0.0.1', {client.port}) ('127.0.0.1', {port})"
        client.finish()
        assert client.rest() == b""
    wait_for(lambda: legacy.row("echo")["connections"] == 0, "it is gone")


def test_stream_request_handlers_run_side_by_side(legacy: Served) -> None:
    with clients(legacy, "echo", 50) as some:
        began = time.monotonic()
        for client in some:
            client.send("sleep\n")
        assert {client.line() for client in some} == {"slept"}
        assert time.monotonic() - began < 10


def test_a_stream_request_handler_writes_more_than_the_kernel_holds(legacy: Served) -> None:
    before = legacy.row("echo")["bytes_written"]
    with Client(legacy, "echo", receive_buffer=8192) as client:
        client.send("big\n")
        assert len(client.line()) == 5_000_000
    legacy.counted("echo", bytes_written=before + 5_000_001)


@pytest.mark.parametrize("word", ["raise", "backend"])
def test_an_exception_in_a_stream_request_handler(legacy: Served, word: str) -> None:
    before = legacy.row("echo")
    with Client(legacy, "echo") as client:
        client.send(word + "\n")
        assert client.is_cut()
    legacy.wait_log({"raise": "ZeroDivisionError: in Echo", "backend": "the backend is down"}[word])
    wait_for(lambda: legacy.row("echo")["connections"] == 0, "it is gone")
    after = legacy.row("echo")
    assert after["exceptions"] == before["exceptions"] + 1
    assert after["pid"] == before["pid"]


def test_a_handler_that_closes_its_own_socket(legacy: Served) -> None:
    before = legacy.row("echo")["exceptions"]
    with Client(legacy, "echo") as client:
        client.send("close\n")
        assert client.rest() == b""
    wait_for(lambda: legacy.row("echo")["connections"] == 0, "it is gone")
    assert legacy.row("echo")["exceptions"] == before
    with Client(legacy, "echo") as client:
        client.send("a\n")
        assert client.line() == "A"


def test_peers_that_reset_are_no_exception(legacy: Served) -> None:
    before = legacy.row("echo")["exceptions"]
    with Client(legacy, "echo") as client:
        client.send("a\n")
        client.line()
        client.reset()
    wait_for(lambda: legacy.row("echo")["connections"] == 0, "it is gone")
    assert legacy.row("echo")["exceptions"] == before


def test_simple_http_request_handler_on_four_processes(legacy: Served) -> None:
    (legacy.directory / "page.html").write_text("<p>hello</p>")
    (legacy.directory / "big.bin").write_bytes(os.urandom(3_000_000))
    for _ in range(8):
        connection = http.client.HTTPConnection("127.0.0.1", legacy.port("files"), timeout=DEADLINE)
        for path, status in (("/page.html", 200), ("/nothing", 404), ("/big.bin", 200)):
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == status
            if status == 200:
                assert body == (legacy.directory / path[1:]).read_bytes()
        connection.close()
    assert len(legacy.workers("files")) == 4
    # A 404 closes the connection, so each client has made two.
    wait_for(
        lambda: sum(row["requests"] for row in legacy.workers("files")) == 16,
        "all of them are counted",
    )


@contextmanager
def udp(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        sock.settimeout(DEADLINE)
        yield sock


def test_datagram_request_handler(legacy: Served) -> None:
    before = legacy.row("reverse")["exceptions"]
    with udp(legacy.port("reverse")) as sock:
        for word in (b"raise", b"abc", b"x" * 60_000):
            sock.send(word)
        # The handlers answer in any order; that of the one that failed is empty: finish() sends
        # what there is.
        assert sorted(sock.recv(65536) for _ in range(3)) == [b"", b"cba", b"x" * 60_000]
    legacy.wait_log("ZeroDivisionError: in Reverse")
    assert legacy.row("reverse")["exceptions"] == before + 1


def test_datagram_request_handlers_run_side_by_side(legacy: Served) -> None:
    with udp(legacy.port("reverse")) as sock:
        began = time.monotonic()
        for _ in range(30):
            sock.send(b"sleep")
        assert {sock.recv(100) for _ in range(30)} == {b"peels"}
        assert time.monotonic() - began < 10


# ---- UDP, unix sockets, no socket, further listeners


OTHERS = places.app("other_transports")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, OTHERS) as one:
        yield one


def test_udp(others: Served) -> None:
    port = others.port("packets")
    with udp(port) as sock:
        for data in (b"abc", b"", b"x" * 60_000):
            sock.send(data)
            assert sock.recv(65536) == data
        sock.send(b"who")
        assert sock.recv(100).decode() == f"127.0.0.1:{sock.getsockname()[1]} 127.0.0.1:{port} udp"


def test_close_of_a_datagram_leaves_the_listener_alone(others: Served) -> None:
    with udp(others.port("packets")) as sock:
        for _ in range(2):
            sock.send(b"close")
            assert sock.recv(100) == b"closed"


def test_an_exception_of_a_datagram(others: Served) -> None:
    before = others.row("packets")["exceptions"]
    with udp(others.port("packets")) as sock:
        sock.send(b"raise")
        sock.send(b"abc")
        assert sock.recv(100) == b"abc"
    others.wait_log("ZeroDivisionError: in a datagram")
    assert others.row("packets")["exceptions"] == before + 1


def test_a_datagram_that_is_too_large_is_refused(others: Served) -> None:
    with udp(others.port("packets")) as sock:
        sock.send(b"too big")
        assert sock.recv(100) == b"False"
    assert others.events("udp") == ["SEND_FAIL a datagram carries at most 65507 bytes, not 70000"]


def test_handlers_of_datagrams_overlap(others: Served) -> None:
    with udp(others.port("packets")) as sock:
        began = time.monotonic()
        for _ in range(30):
            sock.send(b"sleep")
        sock.send(b"abc")
        assert sock.recv(100) == b"abc"
        assert {sock.recv(100) for _ in range(30)} == {b"sleep"}
        assert time.monotonic() - began < 10


def test_a_datagram_to_a_peer_that_is_gone_does_no_harm(others: Served) -> None:
    for _ in range(20):
        with udp(others.port("packets")) as gone:
            gone.send(b"sleep")
    with udp(others.port("packets")) as sock:
        sock.send(b"sleep")
        assert sock.recv(100) == b"sleep"
        sock.send(b"abc")
        assert sock.recv(100) == b"abc"


def test_a_protocol_over_udp(others: Served) -> None:
    with udp(others.port("texts")) as sock:
        sock.send(b"a\nb\r\nhalf a line")
        assert sock.recv(100) == b"<a>\n"
        assert sock.recv(100) == b"<b>\n"
        sock.send(b"\xff\n")
        sock.send(b"c\n")
        assert sock.recv(100) == b"<c>\n"


@contextmanager
def unix(others: Served, name: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE)
        sock.connect(str(others.directory / name))
        yield sock


def test_unix_socket(others: Served) -> None:
    with unix(others, "local.sock") as sock:
        sock.sendall(b"abc")
        assert sock.recv(1000).decode() == repr((b"abc", "tcp", "unix", "", 0, ""))


def test_a_protocol_over_a_unix_socket(others: Served) -> None:
    with unix(others, "lines.sock") as sock:
        sock.sendall(b"abc\n")
        assert sock.recv(1000) == b"ABC\n"


def test_a_worker_without_a_socket(others: Served) -> None:
    assert len(others.workers("nothing")) == 2
    assert sorted(others.events("nothing")) == ["started 0", "started 1"]
    for number in (0, 1):
        wait_for(lambda number=number: len(others.events(f"timer-{number}")) > 2, "its timer runs")


def test_further_listeners(others: Served) -> None:
    text, datagrams = [
        line.split()[-1] for line in others.events("more") if line.startswith("listen")
    ][-2:]
    assert any(
        line.startswith("refused address 'tcp://127.0.0.1'") for line in others.events("more")
    )
    refused = [line for line in others.events("more") if line.startswith("inner refused")]
    assert len(refused) == 2
    assert all(
        "inside a process of another Worker it needs on_message, tcp or unix" in line
        for line in refused
    )
    with socket.create_connection(
        ("127.0.0.1", int(text.rpartition(":")[2])), timeout=DEADLINE
    ) as sock:
        sock.sendall(b"abc\n")
        assert sock.recv(100).startswith(b"abc ")
    with udp(int(datagrams.rpartition(":")[2])) as sock:
        sock.send(b"abc")
        assert sock.recv(100).startswith(b"abc ")


def test_stop_all_replaces_the_process(others: Served) -> None:
    before = others.row("more")["pid"]
    with Client(others, "more") as client, Client(others, "more") as busy:
        busy.send("sleep\n")
        wait_for(lambda: "sleeping" in others.events("more"), "a handler is busy")
        client.send("stop\n")
        assert client.line() == "stopping"
        assert busy.line() == "slept"  # what was begun is finished
        rows = wait_for(
            lambda: (
                (rows := others.workers("more"))
                and len(rows) == 1
                and rows[0]["pid"] != before
                and rows
            ),
            "a successor",
        )
        for each in (client, busy):
            each.send("abc\n")
            assert each.line() == f"abc {rows[0]['pid']}", "it has moved"
    with Client(others, "more") as client:
        client.send("stopping?\n")
        assert client.line() == "False"
        client.send("abc\n")
        assert client.line() == f"abc {rows[0]['pid']}"


def test_a_stop_lets_handlers_of_datagrams_answer(tmp_path_factory: pytest.TempPathFactory) -> None:
    source = """
        worker = Worker("udp://127.0.0.1:0", name="udp")

        @worker.on_message
        def answer(connection, data):
            record("udp", "begin")
            time.sleep(0.5)
            record("udp", "sent", connection.send(data))
    """
    with serve(tmp_path_factory, source) as app, udp(app.port("udp")) as sock:
        sock.send(b"abc")
        app.wait_event("udp", "begin")
        app.signal(signal.SIGTERM)
        assert app.wait_exit() == 0
        assert app.events("udp") == ["begin", "sent True"]
        assert sock.recv(100) == b"abc"


# ---- descriptors


def test_descriptors_run_out(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Accepting pauses, is told once, and goes on when a connection has closed."""
    source = places.app("takes_descriptors")
    with _limited(tmp_path_factory, source, 80) as app:
        with Client(app, "text") as first:
            _use(first)
            with clients(app, "text", 15) as some:
                for client in some:
                    client.send("a\n")
                    assert client.line() == "a"
                app.wait_log(
                    "16 sockets, as many as the limit of descriptors leaves room for: not accepting"
                )
            app.wait_log("accepting again")  # though no client has come since
            wait_for(lambda: app.row("text")["connections"] == 1, "only the first is left")
            with clients(app, "text", 40) as some:
                for client in some:
                    client.send("a\n")
                answered = wait_for(lambda: _answered(some), "some are accepted")
                assert 0 < answered < 40
                wait_for(lambda: app.read_log().count("not accepting") == 2, "full again")
                for client in some:  # every one that leaves makes room for another
                    assert client.line() == "a"
                    client.socket.close()
            assert app.read_log().count("not accepting") == 2
            wait_for(lambda: app.row("text")["connections"] == 1, "only the first is left")
            wait_for(lambda: app.read_log().count("accepting again") == 2, "it is told again")
            first.send("take\n")
            assert first.line() == "taken"
            with clients(app, "text", 6) as some:
                for client in some:
                    client.send("a\n")
                app.wait_log("accept: Too many open files: not accepting")
                for client in some:
                    assert client.line() == "a"
                    client.socket.close()
            assert app.read_log().count("accept: Too many open files: not accepting") == 1
            first.send("give\n")
            assert first.line() == "given"
        with Client(app, "text") as last:
            _use(last)
        assert app.row("text")["exceptions"] == 0


def test_sockets_that_are_being_closed_take_descriptors_too(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Clients that do not close their side keep ours for two seconds; what handlers open still
    finds room."""
    source = places.app("uses_files")
    with _limited(tmp_path_factory, source, 120) as app, clients(app, "text", 200) as some:
        for client in some:
            assert client.line() == "bye"
        assert app.events("files") == []
        assert "56 sockets, as many as the limit of descriptors leaves room for" in app.read_log()


def test_a_socketserver_class_over_tls_takes_two_descriptors(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A client that finds no room waits in the kernel's queue, and is served when others have
    gone."""
    authority = trustme.CA()
    directory = tmp_path_factory.mktemp("certificates")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        directory / "server.pem"
    )
    source = places.app("echo_over_tls").replace("CERTIFICATE", str(directory / "server.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with _limited(tmp_path_factory, source, 124) as app, ExitStack() as stack:

        def dial() -> ssl.SSLSocket:
            plain = socket.create_connection(("127.0.0.1", app.port("tls")), DEADLINE)
            return stack.enter_context(context.wrap_socket(plain, server_hostname="127.0.0.1"))

        some = [dial() for _ in range(30)]
        waiting = [
            stack.enter_context(socket.create_connection(("127.0.0.1", app.port("tls"))))
            for _ in range(10)
        ]
        app.wait_log("60 sockets, as many as the limit of descriptors leaves room for")
        for one in some:
            one.sendall(b"hello\n")
            assert one.recv(10) == b"hello\n"
            one.close()
        for plain in waiting:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as one:
                one.sendall(b"late\n")
                assert one.recv(10) == b"late\n"
        assert app.row("tls")["exceptions"] == 0


def _use(client: Client) -> None:
    client.send("hello\n")
    assert client.line() == "hello"


def _answered(some: list[Client]) -> int:
    """How many have been answered, as the kernel of the clients sees it."""
    count = 0
    for client in some:
        client.socket.setblocking(False)
        with suppress(BlockingIOError):
            count += bool(client.socket.recv(10, socket.MSG_PEEK))
        client.socket.settimeout(DEADLINE)
    return count


@contextmanager
def _limited(factory: pytest.TempPathFactory, source: str, descriptors: int) -> Iterator[Served]:
    one = Served(factory.mktemp("limited") / "app", source)
    one.prefix = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh"]
    try:
        one.start()
        yield one
    finally:
        one.kill()
