"""Dialling: every protocol, what can fail on the way, proxies, and coming back.

One Worker dials what its clients, the tests, tell it to, and tells them what becomes of it: each
line is JSON.
"""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import places
import pytest
import trustme
from instance import DEADLINE, wait_for
from serving import Client, Served, serve

APP = places.app("dialling")


@pytest.fixture(scope="module")
def upstream() -> Iterator[socket.socket]:
    """Where the Worker `consumer` dials at its start."""
    with listener() as (one, _):
        yield one


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, upstream: socket.socket) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        directory / "server.pem"
    )
    address = f"text://127.0.0.1:{upstream.getsockname()[1]}"
    with serve(
        tmp_path_factory, APP, "--env", f"UPSTREAM={address}", "--env", f"PEM={directory}"
    ) as one:
        one.authority = str(directory / "ca.pem")
        one.listen |= json.loads(one.events("servers")[-1])
        yield one


class Dialler(Client):
    """Tells the Worker what to dial, and hears of it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.came_before: list[list[Any]] = []
        """What was told before an answer that was waited for."""

    def order(self, do: str, **arguments: Any) -> None:
        self.send(json.dumps({"do": do, **arguments}) + "\n")

    def dial(self, url: str, *send: str, name: str = "a", **options: Any) -> None:
        self.order("dial", name=name, url=url, send=send, **options)

    def hear(self) -> list[Any]:
        """What is told next."""
        return self.came_before.pop(0) if self.came_before else self._read()

    def _read(self) -> list[Any]:
        told: list[Any] = json.loads(self.line())
        return told

    def hears(self, *events: Any, name: str = "a") -> None:
        for event in events:
            assert self.hear() == [name, *([event] if isinstance(event, str) else event)]

    def fails(self, *words: str, name: str = "a") -> str:
        """on_error(CONNECT_FAIL) with `words` in its message, then on_close."""
        who, event, code, message = self.hear()
        assert (who, event, code) == (name, "error", 1)
        for word in words:
            assert word in message
        self.hears("close", name=name)
        return str(message)

    def ask(self, attribute: str, *arguments: Any, name: str = "a", call: bool = False) -> Any:
        extra = {"arguments": arguments} if call or arguments else {}
        self.order("ask", name=name, attribute=attribute, **extra)
        while (told := self._read())[0] != "result":
            self.came_before.append(told)
        return told[1]

    def refused(self, url: str, **arguments: Any) -> str:
        self.order("refusal", url=url, **arguments)
        return str(self.hear()[1])


@pytest.fixture
def dialler(served: Served) -> Iterator[Dialler]:
    with Dialler(served, "dialler") as client:
        yield client


def trusting(served: Served, name: str, **more: str) -> dict[str, str] | None:
    """The option `tls`, where TLS is spoken."""
    return {"ca_certs": served.authority, **more} if name in ("wss", "tls") else None


def url_of(served: Served, name: str) -> str:
    return served.listen[name]


@contextmanager
def listener(backlog: int = 5) -> Iterator[tuple[socket.socket, int]]:
    with socket.socket() as one:
        one.settimeout(DEADLINE)
        one.bind(("127.0.0.1", 0))
        one.listen(backlog)
        yield one, one.getsockname()[1]


@contextmanager
def black_hole() -> Iterator[int]:
    """A port whose queue is full: SYNs get no answer."""
    with listener(0) as (_, port):
        fillers = []
        try:
            while True:
                filler = socket.socket()
                fillers.append(filler)
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
                if not select.select([], [filler], [], 0.1)[1]:
                    break
            yield port
        finally:
            for filler in fillers:
                filler.close()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that is bound and not listened at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one.getsockname()[1]


# ---- every protocol


@pytest.mark.parametrize("name", ["text", "ws", "wss"])
def test_a_message_goes_there_and_back(served: Served, dialler: Dialler, name: str) -> None:
    """What is sent before it is open is kept."""
    dialler.dial(url_of(served, name), "early", "ünd", "x" * 200_000, tls=trusting(served, name))
    dialler.hears("open", ["message", "early"], ["message", "ünd"], ["message", "x" * 200_000])
    assert dialler.ask("transport") == ("ssl" if name == "wss" else "tcp")
    assert dialler.ask("status") == "established"
    dialler.order("call", name="a", method="send", data="late")
    dialler.hears(["message", "late"])
    dialler.order("call", name="a", method="close")
    dialler.hears("close")
    assert dialler.ask("status") == "closed"


@pytest.mark.parametrize("name", ["frame", "tcp", "udp", "unix", "tls"])
def test_bytes_go_there_and_back(served: Served, dialler: Dialler, name: str) -> None:
    dialler.dial(url_of(served, name), "one", tls=trusting(served, name))
    dialler.hears("open", ["message", list(b"one")])
    dialler.order("call", name="a", method="send", data="two")
    dialler.hears(["message", list(b"two")])
    dialler.order("call", name="a", method="close")
    dialler.hears("close")


def test_each_datagram_is_a_message(served: Served, dialler: Dialler) -> None:
    dialler.dial(url_of(served, "udp"), "one", "two", "three")
    dialler.hears("open")
    assert sorted(bytes(dialler.hear()[2]) for _ in range(3)) == [b"one", b"three", b"two"]
    assert dialler.ask("transport") == "udp"


def test_nobody_listens_at_a_udp_port(dialler: Dialler) -> None:
    """UDP has no connections that could fail: the error is that of a datagram, and the next one may
    arrive."""
    with closed_port() as port:
        dialler.dial(f"udp://127.0.0.1:{port}")
        dialler.hears("open")
    dialler.order("call", name="a", method="send", data="x")
    dialler.hears(["error", 2, "Connection refused"])
    assert dialler.ask("status") == "established"


def test_a_websocket_says_what_it_is_told_to(served: Served, dialler: Dialler) -> None:
    url = url_of(served, "ws") + "/room?id=7"
    dialler.dial(url, "fields", headers={"X-Token": "t"}, origin="https://o.example")
    dialler.hears("open")
    fields = {name.lower(): value for name, value in json.loads(dialler.hear()[2])}
    assert fields["x-token"] == "t"
    assert fields["origin"] == "https://o.example"
    assert fields["host"] == f"127.0.0.1:{served.port('ws')}"


def test_a_server_that_refuses_a_websocket(dialler: Dialler) -> None:
    """Until it has agreed, the connection is not open: what was sent is kept, and dropped in the
    end."""
    with listener() as (server, port):
        dialler.dial(f"ws://127.0.0.1:{port}", "kept")
        peer, _ = server.accept()
        with peer:
            assert peer.recv(65536).startswith(b"GET / HTTP/1.1\r\n")
            assert dialler.ask("status") == "connecting"
            assert dialler.ask("send_queue") == 4
            peer.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            dialler.fails(f"cannot connect to ws://127.0.0.1:{port}", "403 Forbidden")


@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_server_that_goes_away_during_the_handshake(dialler: Dialler, end: str) -> None:
    with listener() as (server, port):
        dialler.dial(f"ws://127.0.0.1:{port}")
        peer, _ = server.accept()
        if end == "reset":  # by what is unread
            select.select([peer], [], [], DEADLINE)
        else:
            peer.recv(65536)
        peer.close()
        dialler.fails("reset" if end == "reset" else "closed the connection")


# ---- TLS


def test_a_certificate_of_an_unknown_authority(served: Served, dialler: Dialler) -> None:
    url = url_of(served, "tls")
    dialler.dial(url)
    dialler.fails(
        f"cannot connect to {url}: TLS handshake with {url}: the peer's certificate is refused: "
    )
    dialler.dial(url, "x", protocol="text", tls={"verify": False})
    dialler.hears("open")


def test_a_certificate_for_another_host(served: Served, dialler: Dialler) -> None:
    dialler.dial(url_of(served, "wss"), tls=trusting(served, "wss", server_hostname="other.test"))
    dialler.fails("certificate is refused", "other.test")


def test_a_server_without_tls(dialler: Dialler) -> None:
    with listener() as (server, port):
        dialler.dial(f"tls://127.0.0.1:{port}", timeout=DEADLINE)
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"220 welcome\r\n")
            dialler.fails("what was sent is no TLS")


# ---- what can fail


def test_nobody_listens(dialler: Dialler) -> None:
    with closed_port() as port:
        dialler.dial(f"tcp://127.0.0.1:{port}", "lost")
        dialler.fails(f"cannot connect to tcp://127.0.0.1:{port}: ", "Connection refused")
    assert dialler.ask("status") == "closed"
    dialler.order("ask", name="a", attribute="send", arguments=["x"])
    heard = [dialler.hear(), dialler.hear()]
    assert sorted(heard) == [["a", "error", 2, "client closed"], ["result", False]]


def test_no_unix_socket(dialler: Dialler) -> None:
    dialler.dial("unix:///nowhere/x.sock")
    dialler.fails("/nowhere/x.sock: No such file or directory")


def test_no_such_name(dialler: Dialler) -> None:
    dialler.dial("tcp://no.such.name.invalid:80")
    dialler.fails("no.such.name.invalid: no address")


def test_the_deadline(dialler: Dialler) -> None:
    with black_hole() as port:
        began = time.monotonic()
        dialler.dial(f"tcp://127.0.0.1:{port}", timeout=0.3)
        dialler.fails("not connected within 0.3 s", f"127.0.0.1:{port}")
        assert time.monotonic() - began >= 0.25


def test_the_deadline_covers_the_handshake(dialler: Dialler) -> None:
    with listener() as (_, port):
        dialler.dial(f"ws://127.0.0.1:{port}", timeout=0.3)
        dialler.fails("not connected within 0.3 s", "handshake")


def test_an_address_that_does_not_answer_delays_by_the_stagger_only(
    served: Served, dialler: Dialler
) -> None:
    with black_hole() as hole, closed_port() as nobody:
        ports = (hole, nobody, served.port("text"))
        dialler.order("names", **{"three.test": [["127.0.0.1", port] for port in ports]})
        began = time.monotonic()
        dialler.dial("text://three.test:1", "hello", timeout=DEADLINE)
        dialler.hears("open", ["message", "hello"])
        assert 0.2 <= time.monotonic() - began < 20
        assert dialler.ask("remote_address") == f"127.0.0.1:{served.port('text')}"


def test_all_addresses_fail(dialler: Dialler) -> None:
    with closed_port() as one, closed_port() as two:
        dialler.order("names", **{"two.test": [["127.0.0.1", one], ["127.0.0.1", two]]})
        dialler.dial("text://two.test:1")
        dialler.fails(f"127.0.0.1:{one}: Connection refused; 127.0.0.1:{two}: Connection refused")


def test_closing_while_it_connects(dialler: Dialler) -> None:
    with black_hole() as port:
        dialler.dial(f"tcp://127.0.0.1:{port}", "dropped")
        assert dialler.ask("status") == "connecting"
        assert dialler.ask("remote_address") == f"127.0.0.1:{port}"
        for method in ("close", "destroy"):
            dialler.order("call", name="a", method=method)
        dialler.hears("close")
        assert dialler.ask("status") == "closed"


def test_what_waits_for_it_to_open_is_bounded(dialler: Dialler) -> None:
    with black_hole() as port:
        dialler.dial(
            f"tcp://127.0.0.1:{port}", "x" * 60, "y" * 60, "z" * 60, max_send_buffer_size=100
        )
        dialler.hears(["error", 2, "send buffer full and drop package"])
        assert dialler.ask("send_queue") == 120
        assert dialler.ask("drain", 0.05) is False


def test_it_counts_nowhere_as_a_client(served: Served, dialler: Dialler) -> None:
    dialler.dial(url_of(served, "text"))
    dialler.hears("open")
    dialler.order("mine")
    assert dialler.hear() == ["result", 1]
    assert served.row("dialler")["connections"] == 1
    rows = json.loads(served.run("connections", "--json").stdout)
    remote = f"127.0.0.1:{served.port('text')}"
    (row,) = [row for row in rows if row["worker"] == "dialler" and row["remote"] == remote]
    assert row["status"] == "established"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"url": "127.0.0.1:80"}, "ConfigError: connect to '127.0.0.1:80': expected SCHEME"),
        ({"url": "http://127.0.0.1:80"}, "ConfigError: connect to 'http://127.0.0.1:80': http "
                                         "has no client"),
        ({"url": "tcp://h:1", "protocol": "http"}, "ConfigError: connect to tcp://h:1: http has "
                                                   "no client"),
        ({"url": "nosuch://h:1"}, "ConfigError: address 'nosuch://h:1': unknown protocol 'nosuch'"),
        ({"url": "tcp://h:1", "timeout": 0}, "ConfigError: connect to tcp://h:1: timeout=0"),
        ({"url": "tcp://h:1", "on_message": 5}, "TypeError: on_message of connect() must be "
                                                "callable, not int"),
        ({"url": "tcp://h:1", "on_takeover": None}, "TypeError: connect() got an unexpected "
                                                    "keyword argument 'on_tak"),
        ({"url": "tcp://h:1", "source_address": ["127.0.0.1"]}, "ConfigError: connect to "
                                                                "tcp://h:1: source_address"),
        ({"url": "tcp://h:1", "origin": "x"}, "ConfigError: connect to tcp://h:1: origin belong "
                                              "to a WebSocket"),
        ({"url": "ws://h:1", "headers": {"Host": "x"}}, "ConfigError: connect to ws://h:1: the "
                                                        "handshake sets Host"),
        ({"url": "ws://h:1", "lockstep": True}, "ConfigError: connect to ws://h:1: lockstep"),
        ({"url": "tcp://h:1", "tls": {}}, "ConfigError: connect to tcp://h:1: tls is for wss"),
        ({"url": "tls://h:1", "tls": {"x": 1}}, "ConfigError: connect to tls://h:1: tls has an "
                                                "unknown key 'x'"),
        ({"url": "unix:///x", "transport": "unix", "tls": {}}, "ConfigError: connect to "
                                                               "unix:///x: tls is for"),
        ({"url": "udp://h:1", "proxy": "socks5://p"}, "ConfigError: connect to udp://h:1: a "
                                                      "proxy carries tcp"),
        ({"url": "tcp://h:1", "proxy": "http://a%3Ab:c@p"}, "ConfigError: connect to tcp://h:1 "
                                                            "through proxy http://p"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_at_once(
    dialler: Dialler, arguments: dict[str, Any], why: str
) -> None:
    assert dialler.refused(**arguments).startswith(why)


def test_outside_a_worker_process() -> None:
    import gworker

    with pytest.raises(RuntimeError, match="works in a worker process"):
        gworker.connect("tcp://127.0.0.1:1")


# ---- the end, and coming back


def test_the_server_closes(served: Served, dialler: Dialler) -> None:
    dialler.dial(url_of(served, "text"), "last", "close")
    dialler.hears("open", ["message", "last"], "close")


def test_reconnecting_until_there_is_a_server(dialler: Dialler) -> None:
    """The same object: its id stays, its counters begin anew, what is sent meanwhile is kept."""
    with closed_port() as port:
        dialler.dial(
            f"text://127.0.0.1:{port}",
            again={"after": 0.05, "factor": 2, "most": 0.2, "jitter": 0.5},
        )
        number = dialler.ask("id")
        dialler.fails("refused")
        dialler.fails("refused")
    with socket.socket() as server:
        server.settimeout(DEADLINE)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        peer, _ = server.accept()
        peer.sendall(b"first\n")
        while (told := dialler.hear()) != ["a", "message", "first"]:
            assert told[1] in ("error", "close", "open")
        peer.close()
        dialler.hears("close")
        dialler.order("call", name="a", method="send", data="kept")
        peer, _ = server.accept()
        with peer:
            assert peer.makefile("rb").readline() == b"kept\n"
            dialler.hears("open")
            assert dialler.ask("id") == number
            assert dialler.ask("bytes_read") == 0
            assert dialler.ask("bytes_written") == 5


def test_close_cancels_a_reconnect(dialler: Dialler) -> None:
    """on_close was called for the time before; what waits only has no end of its own."""
    with closed_port() as port:
        dialler.dial(f"text://127.0.0.1:{port}", again={"after": 3600})
        dialler.fails("refused")
        assert dialler.ask("status") == "connecting"
        dialler.order("call", name="a", method="close")
        assert dialler.ask("status") == "closed"


def test_an_open_connection_is_not_reconnected(served: Served, dialler: Dialler) -> None:
    dialler.dial(url_of(served, "text"))
    dialler.hears("open")
    dialler.order("call", name="a", method="reconnect")
    assert dialler.is_cut(), "the exception costs the connection whose handler it was"


# ---- proxies


class ProxyServer:
    """Answers one client with `replies`, each after so many bytes, then forwards to where it
    leads."""

    def __init__(self, script: Callable[[socket.socket], int | None]) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(DEADLINE)
        self.port = self._listener.getsockname()[1]
        self.asked = b""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        client, _ = self._listener.accept()
        client.settimeout(DEADLINE)
        with client:
            port = self._script(client)
            if port is None:
                return
            with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as server:
                ends = {client: server, server: client}
                while ready := select.select(list(ends), [], [], DEADLINE)[0]:
                    for end in ready:
                        data = end.recv(65536)
                        if not data:
                            return
                        ends[end].sendall(data)

    def __enter__(self) -> ProxyServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._thread.join(DEADLINE)


def exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += client.recv(size - len(data))
    return data


def socks(client: socket.socket) -> int:
    """A SOCKS 5 proxy with a login. The destination's port is all that it heeds."""
    assert exactly(client, 4) == b"\5\2\0\2"
    client.sendall(b"\5\2")
    assert exactly(client, 11) == b"\1\2me\6secret"
    client.sendall(b"\1\0")
    assert exactly(client, 4)[:3] == b"\5\1\0"
    name = exactly(client, exactly(client, 1)[0])
    assert name == b"inside.test"
    port = int.from_bytes(exactly(client, 2))
    client.sendall(b"\5\0\0\1\x7f\0\0\1\0\0")
    return port


def tunnel(client: socket.socket) -> int:
    """An HTTP proxy with Basic authentication."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(65536)
    lines = head.decode().split("\r\n")
    assert "Proxy-Authorization: Basic bWU6c2VjcmV0" in lines
    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    return int(lines[0].split()[1].rpartition(":")[2])


@pytest.mark.parametrize(("scheme", "script"), [("socks5h", socks), ("http", tunnel)])
@pytest.mark.parametrize("name", ["text", "wss"])
def test_through_a_proxy(
    served: Served, dialler: Dialler, scheme: str, script: Any, name: str
) -> None:
    """The name is resolved by the proxy: here there is none."""
    with ProxyServer(script) as proxy:
        url = f"{name}://inside.test:{served.port(name)}"
        tls = trusting(served, name, server_hostname="localhost")
        dialler.dial(url, "hello", proxy=f"{scheme}://me:secret@127.0.0.1:{proxy.port}", tls=tls)
        dialler.hears("open", ["message", "hello"])
        dialler.order("call", name="a", method="close")
        dialler.hears("close")


def test_a_name_is_resolved_here_for_socks5(served: Served, dialler: Dialler) -> None:
    asked = []

    def script(client: socket.socket) -> int:
        assert exactly(client, 3) == b"\5\1\0"
        client.sendall(b"\5\0")
        asked.append(exactly(client, 10))
        client.sendall(b"\5\0\0\1\x7f\0\0\1\0\0" + b"server speaks first\n")
        return served.port("text")

    dialler.order("names", **{"here.test": [["127.0.0.9", 5]]})
    with ProxyServer(script) as proxy:
        dialler.dial("text://here.test:5", proxy=f"socks5://127.0.0.1:{proxy.port}")
        dialler.hears("open", ["message", "server speaks first"])
        dialler.order("call", name="a", method="close")
        dialler.hears("close")
    assert asked == [b"\5\1\0\1\x7f\0\0\x09\0\5"]


def test_a_proxy_that_refuses(dialler: Dialler) -> None:
    def script(client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")

    with ProxyServer(script) as proxy:
        dialler.dial("text://h.test:5", proxy=f"http://127.0.0.1:{proxy.port}")
        dialler.fails(
            f"h.test:5 through proxy http://127.0.0.1:{proxy.port}: ",
            "407 Proxy Authentication Required",
        )


def test_a_proxy_that_is_not_there_and_one_that_says_nothing(dialler: Dialler) -> None:
    with closed_port() as port:
        dialler.dial("text://h.test:5", proxy=f"socks5h://127.0.0.1:{port}")
        dialler.fails(f"proxy socks5h://127.0.0.1:{port}: ", "Connection refused")
    with listener() as (_, port):
        dialler.dial("text://h.test:5", proxy=f"http://127.0.0.1:{port}", timeout=0.3)
        dialler.fails("not connected within 0.3 s", "the proxy")


def test_where_it_connects_from(served: Served, dialler: Dialler) -> None:
    dialler.dial(url_of(served, "text"), source_address=["127.0.0.5", 0])
    dialler.hears("open")
    assert dialler.ask("local_ip") == "127.0.0.5"
    dialler.dial(url_of(served, "text"), name="b", source_address=["192.0.2.1", 0])
    dialler.fails("from 192.0.2.1:0: Cannot assign requested address", name="b")


# ---- the end of the process


def test_dialled_connections_end_last_and_are_dialled_anew_after_a_reload(
    served: Served, upstream: socket.socket
) -> None:
    old, _ = upstream.accept()
    before = served.row("consumer")["pid"]
    old.settimeout(DEADLINE)
    old.sendall(b"work\n" * 5000)  # it never comes to an end of that
    began = time.monotonic()
    assert served.reload()["exit"] == 0
    new, _ = upstream.accept()
    with old, new:
        said = old.makefile("rb").read()
        assert said == b"start %d\nstop %d\n" % (before, before), (
            "it was closed after on_worker_stop"
        )
        old.close()
        assert new.makefile("rb").readline() != b"start %d\n" % before
        wait_for(
            lambda: before not in [child.pid for child in served.children()], "the old one has left"
        )
        assert time.monotonic() - began < 20
