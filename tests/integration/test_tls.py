"""TLS over the wire: every protocol, big transfers, what is refused, and certificates that change
while it serves."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import places
import pytest
from instance import DEADLINE, wait_for
from pki import Pki, serial
from serving import Served
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

pytestmark = pytest.mark.timeout(120)

APP = places.app("tls")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    one = Served(tmp_path_factory.mktemp("app") / "tls", APP)
    pki = Pki(one.directory)
    pki.issue("server", "localhost", "127.0.0.1")
    pki.issue("kept", "localhost", "127.0.0.1")
    pki.issue("shop", "shop.example.com")
    pki.issue("client", "client.example.com")
    one.pki = pki  # type: ignore[attr-defined]
    try:
        one.start("--access-log", str(one.directory / "access"))
        yield one
    finally:
        one.kill()


@pytest.fixture
def pki(served: Served) -> Pki:
    return served.pki  # type: ignore[attr-defined, no-any-return]


def dial(
    served: Served, name: str, context: ssl.SSLContext, host: str = "localhost"
) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", served.port(name)), timeout=DEADLINE)
    return context.wrap_socket(plain, server_hostname=host)


def shown(served: Served, pki: Pki, name: str) -> str:
    """The serial number of the certificate that a Worker shows now."""
    with dial(served, name, pki.client()) as connection:
        return serial(connection.getpeercert())


@contextmanager
def wss(served: Served, pki: Pki) -> Iterator[SimpleNamespace]:
    """A WebSocket with blocking `send(message)` and `recv()`.

    It is asyncio's, which reads and writes in one thread. `websockets.sync` does so in two, which
    the ssl module does not allow before Python 3.13: now and then bytes are lost in the client.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(step: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(step, loop).result(DEADLINE)

    async def opened() -> ClientConnection:
        return await connect(f"wss://localhost:{served.port('sock')}", ssl=pki.client())

    try:
        connection = run(opened())
        yield SimpleNamespace(
            send=lambda message: run(connection.send(message)),
            recv=lambda: run(connection.recv()),
        )
        run(connection.close())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_https(served: Served, pki: Pki) -> None:
    for host in ("localhost", "shop.example.com"):
        connection = http.client.HTTPSConnection(
            "127.0.0.1", served.port("web"), context=pki.client(alpn=["http/1.1"])
        )
        connection.sock = dial(served, "web", pki.client(alpn=["http/1.1"]), host)
        with closing(connection):
            for _ in range(3):
                connection.request("GET", "/")
                assert (
                    connection.getresponse().read().decode()
                    == f"ssl https http TLSv1.3 http/1.1 {host}"
                )


def test_the_access_log(served: Served, pki: Pki) -> None:
    connection = http.client.HTTPSConnection("localhost", served.port("web"), context=pki.client())
    with closing(connection):
        connection.request("GET", "/logged")
        assert connection.getresponse().read()
        peer = "127.0.0.1 - - ["
        log = served.directory / "access"
        wait_for(
            lambda: [
                each
                for each in log.read_text().splitlines()
                if '"GET /logged HTTP/1.1" 200' in each
            ],
            "it",
        )
        assert log.read_text().startswith(peer)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_reads_much_and_posts_much(served: Served, pki: Pki) -> None:
    url = f"https://localhost:{served.port('web')}/"
    curl = ["curl", "-sS", "--cacert", pki.ca, "--noproxy", "*"]
    much = subprocess.run(
        [*curl, url + "big"], capture_output=True, check=True, timeout=DEADLINE
    ).stdout
    assert len(much) == 10_000_000
    posted = subprocess.run(
        [*curl, "--data-binary", "@-", url], input=much, capture_output=True, check=True
    )
    assert posted.stdout == much
    old = subprocess.run([*curl, "--tls-max", "1.1", url], capture_output=True, check=False)
    assert old.returncode == 35  # in its words: a problem in the handshake


def test_wss(served: Served, pki: Pki) -> None:
    with wss(served, pki) as connection:
        for message in ("hello", b"\0" * 300_000):
            connection.send(message)
            assert connection.recv() == message


def test_much_both_ways_while_both_sides_stop_reading(served: Served, pki: Pki) -> None:
    data = os.urandom(10_000) * 1000
    with dial(served, "echo", pki.client()) as connection:
        connection.sendall(b"pause")
        sender = threading.Thread(target=connection.sendall, args=(data,))
        sender.start()
        time.sleep(0.5)  # so that everything on the way is full
        got = bytearray()
        while len(got) < len(data) + 5:
            piece = connection.recv(1 << 20)
            assert piece, f"the end after {len(got)} bytes"
            got += piece
        sender.join()
        assert bytes(got) == b"pause" + data
        with closing(connection.unwrap()):
            served.wait_story(
                connection_port(connection, served), "connect TLSv1.3", "close TLSv1.3"
            )


def connection_port(connection: ssl.SSLSocket, served: Served) -> int:
    """The port of the newest connection that was recorded: `connection` has given its socket
    away."""
    lines = (served.directory / "events").read_text().splitlines()
    return int([line for line in lines if " connect" in line][-1].partition(" ")[0])


def test_what_came_while_reading_was_paused_is_delivered_though_nothing_follows(
    served: Served, pki: Pki
) -> None:
    with dial(served, "echo", pki.client()) as connection:
        connection.sendall(b"pause")
        assert connection.recv(100) == b"pause"
        connection.sendall(bytes(100_000))
        got = 0
        while got < 100_000:
            got += len(connection.recv(65536))


def test_a_peer_that_vanishes_without_close_notify_is_lost(served: Served, pki: Pki) -> None:
    connection = dial(served, "echo", pki.client())
    port = connection.getsockname()[1]
    connection.sendall(b"x")
    assert connection.recv(10) == b"x"
    connection.close()
    served.wait_story(port, "connect TLSv1.3", "close TLSv1.3")


def test_client_certificates_and_the_name_of_the_transport(served: Served, pki: Pki) -> None:
    own = (str(pki.directory / "client.pem"), str(pki.directory / "client.key"))
    with (
        dial(served, "kept", pki.client(*own)) as known,
        dial(served, "kept", pki.client()) as unknown,
    ):
        for connection, name in ((known, b"client"), (unknown, b"nobody")):
            connection.sendall(b"hi\n")
            assert connection.recv(100) == b"hi " + name + b"\n"
        rows = json.loads(served.run("connections", "--json").stdout)
        (row,) = [each for each in rows if each["remote"].endswith(f":{known.getsockname()[1]}")]
        assert (row["transport"], row["protocol"]) == ("ssl", "text")


def test_socketserver_classes(served: Served, pki: Pki) -> None:
    with dial(served, "old", pki.client()) as connection:
        connection.sendall(b"one\ntw")
        assert connection.recv(100) == b"ONE\nTLSv1.3"
        connection.sendall(b"o\n")
        assert connection.recv(100) == b"TWO\nTLSv1.3"


def test_plain_http_to_a_tls_port_is_told_in_one_line(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port("web")), timeout=DEADLINE) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        port = plain.getsockname()[1]
        while plain.recv(4096):
            continue
    served.wait_log(
        f"[INFO] TLS handshake with 127.0.0.1:{port}: plain HTTP was sent to a TLS port"
    )


def test_peers_that_do_not_shake_hands_count_and_are_cut_in_time(served: Served, pki: Pki) -> None:
    wait_for(lambda: served.row("old")["connections"] == 0, "no other connection")
    address = ("127.0.0.1", served.port("old"))
    began = time.monotonic()
    with (
        socket.create_connection(address, timeout=DEADLINE) as one,
        socket.create_connection(address) as two,
    ):
        two.sendall(b"\x16\x03\x01")
        served.wait_log("max_connections (2) reached")
        with dial(served, "old", pki.client()) as third:
            assert time.monotonic() - began >= 0.9
            third.sendall(b"a\n")
            assert third.recv(100) == b"A\nTLSv1.3"
        assert one.recv(100) == b""
    served.wait_log(
        f"TLS handshake with 127.0.0.1:{port_of(served, 'not finished in time')}: not finished "
        "in time"
    )
    assert "Traceback" not in served.read_log()


def port_of(served: Served, text: str) -> str:
    wait_for(lambda: text in served.read_log(), text)
    line = next(line for line in served.read_log().splitlines() if text in line)
    return line.partition("127.0.0.1:")[2].partition(":")[0]


def test_certificates_change_with_a_reload_and_kept_processes_go_on(
    served: Served, pki: Pki
) -> None:
    before = {name: shown(served, pki, name) for name in ("web", "sock", "kept")}
    processes = {name: served.row(name)["pid"] for name in ("web", "kept")}
    pki.issue("server", "localhost", "127.0.0.1")
    pki.issue("kept", "localhost", "127.0.0.1")
    assert shown(served, pki, "web") == before["web"]
    with (
        dial(served, "kept", pki.client()) as stays,
        dial(served, "web", pki.client()) as idle,
        wss(served, pki) as told,
    ):
        idle.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(4096)
        served.signal(signal.SIGHUP)
        served.wait_log("generation 2 serves")
        for name, number in before.items():
            assert shown(served, pki, name) != number, name
        stays.sendall(b"still\n")
        assert stays.recv(100) == b"still nobody\n"
        assert idle.recv(4096) == b""  # with close_notify: it would be an SSLError otherwise
        with pytest.raises(ConnectionClosed) as gone:
            told.recv()
        assert gone.value.rcvd is not None
        assert gone.value.rcvd.code == 1012
    wait_for(
        lambda: all(len(served.workers(name)) == 1 for name in before),
        "no process is left of generation 1",
    )
    reload = served.status()["last_reload"]
    assert (reload["handed_over"], reload["closed"]) == (0, 2)
    assert served.row("web")["pid"] != processes["web"]
    assert served.row("kept")["pid"] == processes["kept"]


def test_a_certificate_that_cannot_be_used_refuses_the_reload(served: Served, pki: Pki) -> None:
    before = shown(served, pki, "web")
    path = Path(pki.directory, "server.key")
    good = path.read_bytes()
    shutil.copy(pki.directory / "shop.key", path)
    try:
        reply: dict[str, Any] = served.reload()
        checked = served.run("check", "app")
    finally:
        path.write_bytes(good)
    wrong = f": tls: the key in {path} does not match the certificate in {path.with_suffix('.pem')}"
    assert reply["exit"] == 1
    assert wrong in reply["error"]
    assert checked.returncode == 1
    assert wrong in checked.stderr
    assert shown(served, pki, "web") == before


@pytest.mark.parametrize("name", ["web", "sock", "echo", "kept", "old"])
@pytest.mark.parametrize("method", ["GET /", "DELETE /x", "OPTIONS *", "GET http://a/", "HEAD /"])
def test_plain_http_on_a_tls_port_is_told_so(served: Served, name: str, method: str) -> None:
    with socket.create_connection(("127.0.0.1", served.port(name)), timeout=DEADLINE) as plain:
        plain.sendall(f"{method} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".encode())
        answer = b""
        while data := plain.recv(65536):
            answer += data
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    assert body == (
        b""
        if method == "HEAD /"
        else b"400 Bad Request: this port speaks TLS: ask with https, not http\n"
    )
    served.wait_log("plain HTTP was sent to a TLS port")


def test_what_is_neither_tls_nor_http_is_told_nothing_of_http(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port("echo")), timeout=DEADLINE) as plain:
        plain.sendall(b"EHLO example.com\r\n")
        assert b"HTTP" not in plain.recv(65536)


def test_a_client_that_speaks_another_protocol_is_refused_by_alpn(served: Served, pki: Pki) -> None:
    for name in ("web", "sock"):
        with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
            dial(served, name, pki.client(alpn=["h2"]))
        with dial(served, name, pki.client(alpn=["h2", "http/1.1"])) as connection:
            assert connection.selected_alpn_protocol() == "http/1.1"
    served.wait_log("no protocol in common (ALPN)")
    with dial(
        served, "echo", pki.client(alpn=["h2"])
    ) as connection:  # it knows no names, so it has no say
        assert connection.selected_alpn_protocol() is None
