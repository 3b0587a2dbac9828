"""Peers that are slow or too many, and clients behind proxies, over real sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Iterator

import places
import pytest
from instance import DEADLINE, wait_for
from pki import Pki
from serving import Client, Served, serve

APP = places.app("limits")

V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n"
NAMED = "192.0.2.7:40000 192.0.2.7 40000"


def v2(client: str, port: int = 5) -> bytes:
    addresses = socket.inet_pton(socket.AF_INET6, client) + bytes(16) + struct.pack("!HH", port, 80)
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x21" + struct.pack("!H", len(addresses)) + addresses


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    certificate, key = Pki(tmp_path_factory.mktemp("pki")).issue("server", "localhost")
    source = APP.replace("CERTIFICATE", certificate).replace("KEY", key)
    with serve(tmp_path_factory, source, "--access-log", "access") as one:
        for name in ("web", "chat", "pweb", "pchat", "fchat"):
            one.listen[name] = one.events(name)[-1]
        yield one


def drip(client: Client, data: bytes, pause: float = 0.1) -> float:
    """Send `data` byte by byte until the connection is cut; return the seconds that it took."""
    began = time.monotonic()
    client.socket.settimeout(pause)
    for number in range(len(data)):
        try:
            client.socket.sendall(data[number : number + 1])
            if not client.socket.recv(1000):
                return time.monotonic() - began
        except TimeoutError:
            continue
        except ConnectionError:
            return time.monotonic() - began
    raise AssertionError(f"not cut within {time.monotonic() - began} s")


def until_cut(client: Client, request: str, size: int = 1) -> float:
    """Send, and read `size` bytes now and then until the connection is over, however it ends;
    return the seconds."""
    began = time.monotonic()
    client.send(request)
    with contextlib.suppress(ConnectionError):
        while client.socket.recv(size):
            assert time.monotonic() - began < DEADLINE
            if "closed" in client.events():  # the rest is the kernel's
                break
            time.sleep(0.05)
    return time.monotonic() - began


# ---- slow writers


def test_a_head_that_drips_is_cut(app: Served) -> None:
    with Client(app, "web") as client:
        assert 0.9 < drip(client, b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 600) < 10


def test_a_body_that_drips_is_cut(app: Served) -> None:
    with Client(app, "web") as client:
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        assert 0.9 < drip(client, b"a" * 600) < 10


def test_a_body_that_comes_slowly_but_well_is_not(app: Served) -> None:
    with Client(app, "web") as client:
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n")
        for _ in range(30):
            time.sleep(0.06)
            client.send(b"a" * 100)
        assert client.answer()[2].endswith(b" 3000")


def test_a_line_that_does_not_end_is_cut(app: Served) -> None:
    with Client(app, "lines") as client:
        client.send("one\ntw")
        client.line()
        assert 0.8 < drip(client, b"o" * 600) < 10
        client.wait_event("closed")


def test_lines_that_end_in_time_are_not_cut(app: Served) -> None:
    with Client(app, "lines") as client:
        for _ in range(8):  # there is never a moment without the beginning of a line
            client.send("a\nb")
            client.line()
            time.sleep(0.25)
        assert not client.events()


def test_a_message_in_fragments_that_does_not_end_is_cut_for_its_policy(app: Served) -> None:
    with Client(app, "chat") as client:
        open_websocket(client)
        client.send(b"\x01\x81\0\0\0\0a")
        with contextlib.suppress(ConnectionError):
            while not client.buffer.startswith(b"\x88"):
                client.send(b"\x00\x81\0\0\0\0b\x89\x80\0\0\0\0")
                time.sleep(0.1)
                client._more()
                while client.buffer.startswith(b"\x8a\0"):
                    del client.buffer[:2]
        assert client.buffer[2:4] == struct.pack("!H", 1008)


def open_websocket(client: Client, *fields: str) -> None:
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    upgrade = ("Upgrade: websocket", "Connection: Upgrade", key, "Sec-WebSocket-Version: 13")
    client.send("\r\n".join(["GET / HTTP/1.1", "Host: x", *upgrade, *fields, "", ""]))
    assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")


def say_websocket(client: Client, text: bytes) -> bytes:
    """Send a short message; the payload of the answer."""
    client.send(b"\x81" + bytes([0x80 | len(text)]) + bytes(4) + text)
    return client.exactly(client.exactly(2)[1])


# ---- slow readers


@pytest.mark.parametrize("path", ["/big", "/last"])
def test_who_takes_next_to_nothing_of_an_answer_is_cut(app: Served, path: str) -> None:
    with Client(app, "web", receive_buffer=4096) as client:
        assert 0.9 < until_cut(client, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n") < 10
        client.wait_event("closed")


def test_a_handler_that_waits_for_a_slow_reader_goes_on(app: Served) -> None:
    with Client(app, "lines", receive_buffer=4096) as client:
        client.send("block\n")
        client.wait_story("drained False", "closed")


def test_who_takes_enough_gets_all_of_it(app: Served) -> None:
    with Client(app, "web", receive_buffer=65536) as client:
        client.send("GET /last HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(25):
            client._more(20000)
            time.sleep(0.1)
        assert len(client.rest()) > 16_000_000


# ---- rests


def test_an_http_connection_without_a_further_request_is_closed(app: Served) -> None:
    with Client(app, "web") as client:
        for _ in range(4):
            assert client.http("GET / HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200
            time.sleep(0.4)
        began = time.monotonic()
        assert client.rest() == b""
        assert time.monotonic() - began > 0.3


# ---- too many


def bound(app: Served, name: str, source: str) -> socket.socket:
    """A connection from `source`, perhaps refused already."""
    made = socket.socket()
    made.settimeout(DEADLINE)
    made.bind((source, 0))
    with contextlib.suppress(ConnectionResetError):
        made.connect((source, app.port(name)))
    return made


def is_served(client: socket.socket, data: bytes = b"hello\n") -> bool:
    try:
        client.sendall(data)
        return client.recv(1000) != b""
    except OSError:  # ENOTCONN too: it was refused while it connected
        return False


def test_an_address_has_its_limit_and_others_theirs(app: Served) -> None:
    data = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with contextlib.ExitStack() as stack:

        def one_more(source: str) -> bool:
            return is_served(stack.enter_context(bound(app, "fweb", source)), data)

        first = stack.enter_context(bound(app, "fweb", "127.0.0.1"))
        assert is_served(first, data)
        assert [one_more("127.0.0.1") for _ in range(3)] == [True, True, False]
        assert one_more("127.0.0.2")
        first.close()
        wait_for(lambda: one_more("127.0.0.1"), "the place is free again")
    app.wait_log(" has max_connections_per_address (3) connections: refused one")


# ---- the PROXY protocol


def ask_line(client: Client, data: bytes) -> str:
    client.send(data)
    return client.line()


@pytest.mark.parametrize("pieces", [1, 5])
def test_the_client_is_the_one_that_the_proxy_names(app: Served, pieces: int) -> None:
    with Client(app, "ptext") as client:
        for piece in (
            [V1[:1], V1[1:20], V1[20:], b"hel", b"lo\n"] if pieces > 1 else [V1 + b"hello\n"]
        ):
            client.send(piece)
            time.sleep(0.02)
        assert client.line() == f"{NAMED} 127.0.0.1:{client.port} tcp"


def test_version_2_and_what_is_not_about_a_client(app: Served) -> None:
    with Client(app, "ptext") as client:
        line = ask_line(client, v2("2001:db8::7") + b"hello\n")
        assert line == f"[2001:db8::7]:5 2001:db8::7 5 127.0.0.1:{client.port} tcp"
    for header in (b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"):
        with Client(app, "ptext") as client:
            assert (
                ask_line(client, header + b"hello\n")
                == f"127.0.0.1:{client.port} 127.0.0.1 {client.port}  tcp"
            )


def test_http_and_websocket_behind_a_proxy(app: Served) -> None:
    with Client(app, "pweb") as client:
        status, _, body = client.http(
            V1 + b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
        )
        assert (status, body.decode()) == (
            200,
            f"{NAMED} 127.0.0.1:{client.port} tcp 192.0.2.7 http x 0",
        )
    with Client(app, "pchat") as client:
        client.send(V1)
        open_websocket(client)
        assert say_websocket(client, b"a").decode() == f"{NAMED} 127.0.0.1:{client.port} tcp"
    wait_for(
        lambda: "192.0.2.7 - - " in (app.directory / "access").read_text(),
        "the client in the access log",
    )


def test_the_header_comes_before_tls(app: Served) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with Client(app, "ptls") as client:
        client.send(V1)
        client.socket = context.wrap_socket(client.socket)
        _, _, body = client.http(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert body.decode() == f"{NAMED} 127.0.0.1:{client.port} ssl 192.0.2.7 https x 0"


def test_a_socketserver_class_behind_a_proxy_on_a_unix_socket(app: Served) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE)
        client.connect(str(app.directory / "p.sock"))
        client.sendall(V1 + b"hello\n")
        assert client.recv(1000) == b"('192.0.2.7', 40000)\n"


@pytest.mark.parametrize(
    "data", [b"hello\n", b"\x16\x03\x01", b"PROXY TCP4 1.2.3.4 5 6\r\n", b"PROXY"]
)
def test_without_a_good_header_a_proxy_is_refused(app: Served, data: bytes) -> None:
    with Client(app, "ptext") as client:
        before = (
            client.events()
        )  # of another connection, if the kernel has given its port a second time
        client.send(data)
        began = time.monotonic()
        assert client.is_cut()
        assert (time.monotonic() - began > 0.5) == (data == b"PROXY")  # a part of one has its time
        assert client.events() == before
        app.wait_log(f"refused a connection from the proxy 127.0.0.1:{client.port}: ")


def test_nobody_else_may_name_clients(app: Served) -> None:
    with bound(app, "ptext", "127.0.0.2") as client:
        assert not is_served(client, V1 + b"hello\n")
        app.wait_log(
            f"refused a connection from 127.0.0.2:{client.getsockname()[1]}: no trusted proxy"
        )


def test_who_has_been_named_counts_for_the_limit(app: Served) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(app, "ptext")) for _ in range(4)]
        for number, client in enumerate(clients[:2]):
            assert is_served(client.socket, v2(f"2001:db8:0:5::{number}") + b"hello\n")
        assert not is_served(clients[2].socket, v2("2001:db8:0:5::9") + b"hello\n")
        assert is_served(clients[3].socket, v2("2001:db8:0:6::9") + b"hello\n")


# ---- Forwarded


def test_headers_of_a_trusted_proxy(app: Served) -> None:
    fields = "X-Forwarded-For: 6.6.6.6, 192.0.2.7, 10.0.0.5\r\nX-Forwarded-Proto: https\r\n"
    with Client(app, "fweb") as client:
        _, _, body = client.http(f"GET / HTTP/1.1\r\nHost: h:1\r\n{fields}\r\n")
        address = f"127.0.0.1:{client.port} 127.0.0.1 {client.port}"
        assert body.decode() == f"{address}  tcp 192.0.2.7 https h:1 0"
    with Client(app, "fchat") as client:
        open_websocket(client, 'Forwarded: for="[2001:db8::9]:1"')
        assert say_websocket(client, b"forwarded") == b"2001:db8::9"


def test_headers_of_others(app: Served) -> None:
    with Client(app, "web") as client:
        _, _, body = client.http(
            "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: "
            "for=6.6.6.6\r\n\r\n"
        )
        assert body.decode().endswith(" 127.0.0.1 http h 0")


# ---- the last one: it takes the listeners away that were opened later


def test_a_named_client_moves_as_such_and_one_that_is_not_named_yet_gets_its_answer(
    app: Served,
) -> None:
    with Client(app, "ptext") as client, Client(app, "ptext") as waiting:
        pid = ask_line(client, V1 + b"pid\n")
        waiting.send(V1[:10])
        assert app.reload()["exit"] == 0
        assert ask_line(client, b"pid\n") != pid
        assert ask_line(client, b"who\n") == f"{NAMED} 127.0.0.1:{client.port} tcp"
    with (
        Client(app, "ptext") as client,
        Client(app, "ptext") as other,
        Client(app, "ptext") as third,
    ):
        # It was counted where it went to, and no more when it had gone.
        assert [is_served(each.socket, V1 + b"x\n") for each in (client, other, third)] == [
            True,
            True,
            False,
        ]
