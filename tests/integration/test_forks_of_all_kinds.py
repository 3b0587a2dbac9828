"""A copy of a worker process holds nothing of it, whatever that serves, and tells no peer
anything."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import places
import psutil
import pytest
from instance import DEADLINE, Instance, sockets, wait_for
from pki import Pki

pytestmark = pytest.mark.timeout(120)

APP = places.app("forks_of_all_kinds")

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Instance]:
    one = Instance(tmp_path / "app", APP)
    pki = Pki(one.directory)
    pki.issue("server", "localhost", "127.0.0.1")
    one.pki = pki  # type: ignore[attr-defined]
    try:
        one.start(
            "--forwarded-allow-ips", "127.0.0.1", "--access-log", str(one.directory / "access")
        )
        yield one
    finally:
        one.kill()


class Peer:
    """A client that knows what its server sends back."""

    def __init__(self, stack: ExitStack, one: socket.socket, asks: bytes, answer: bytes) -> None:
        self.socket = stack.enter_context(one)
        self.asks, self.answer = asks, answer

    def ask(self, asks: bytes = b"", answer: bytes = b"") -> bytes:
        """Ask, and hear the answer; others than it knows if they are given."""
        self.socket.sendall(asks or self.asks)
        answer = answer or self.answer
        heard = b""
        while answer not in heard:
            more = self.socket.recv(65536)
            assert more, f"the end, and not {answer!r}"
            heard += more
        return heard


def peers(app: Instance, stack: ExitStack) -> list[Peer]:
    """One of each kind, connected and answered once."""
    line = (b"line\n", b"line\n")
    context: ssl.SSLContext = app.pki.client()  # type: ignore[attr-defined]
    made = [
        Peer(stack, app.connect("text"), *line),
        Peer(stack, app.connect("own"), *line),
        Peer(stack, app.connect("web"), REQUEST, b"page"),
        Peer(stack, context.wrap_socket(app.connect("tls"), server_hostname="localhost"), *line),
        Peer(stack, app.connect("session"), *line),
        Peer(stack, app.connect("legacy"), *line),
        Peer(stack, context.wrap_socket(app.connect("secret"), server_hostname="localhost"), *line),
    ]
    websocket = Peer(stack, app.connect("sock"), HANDSHAKE, b"\r\n\r\n")
    websocket.ask()
    websocket.asks, websocket.answer = b"\x81\x82\0\0\0\0ab", b"\x81\x02ab"
    proxied = Peer(
        stack, app.connect("proxied"), b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nline\n", b"line\n"
    )
    proxied.ask()
    proxied.asks = b"line\n"
    unix = socket.socket(socket.AF_UNIX)
    unix.connect(str(app.directory / "sock"))
    made += [websocket, proxied, Peer(stack, unix, *line)]
    for name in ("udp", "packets"):
        datagrams = socket.socket(type=socket.SOCK_DGRAM)
        datagrams.connect(("127.0.0.1", app.port(name)))
        made.append(Peer(stack, datagrams, b"packet", b"packet"))
    for peer in made:
        peer.socket.settimeout(DEADLINE)
        peer.ask()
    return made


def unfinished(app: Instance, stack: ExitStack) -> list[socket.socket]:
    """Peers whose handshake or PROXY header has not come, that read nothing, and that have half
    closed."""
    made = [stack.enter_context(app.connect(name)) for name in ("tls", "proxied", "own", "text")]
    made[1].sendall(b"PROXY TC")
    made[2].sendall(b"x" * 2_000_000)
    made[3].shutdown(socket.SHUT_WR)
    return made


def copies(app: Instance) -> dict[str, tuple[int, str]]:
    """By Worker: the pid of the copy, and what it says."""
    found = {}
    for path in app.directory.glob("copy-of-*"):
        _, _, name, pid = path.name.split("-")
        if text := path.read_text():
            found[name] = (int(pid), text)
    return found


def test_a_copy_of_any_kind_ends_as_its_handler_does(app: Instance) -> None:
    with ExitStack() as stack:
        served = peers(app, stack)
        for how, code in (("fork", b"0"), ("fork-exit", b"5")):
            told = []
            for peer in served[:-1]:  # for datagrams socketserver itself sends in the end
                if peer.asks.startswith(b"GET"):
                    for path in (f"/{how}", f"/pieces-{how}"):
                        told.append(peer.ask(REQUEST.replace(b"/ ", f"{path} ".encode()), b";"))
                elif peer.asks.startswith(b"\x81"):
                    frame = b"\x81" + bytes([0x80 | len(how)]) + bytes(4) + how.encode()
                    told.append(peer.ask(frame, b";"))
                else:
                    told.append(peer.ask(how.encode() + b"\n" * (peer.asks[-1:] == b"\n"), b";"))
            assert [each.partition(b"ended ")[2][:1] for each in told] == [code] * len(told), told
        for peer in served:
            peer.ask()
    assert "Traceback" not in app.read_log()


def test_a_copy_of_any_kind_holds_nothing(app: Instance) -> None:
    with ExitStack() as stack:
        servers = {row["worker"]: row["pid"] for row in app.workers()}
        served = peers(app, stack)
        unfinished(app, stack)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(DEADLINE)
        (app.directory / "port").write_text(str(listener.getsockname()[1]))
        (app.directory / "dial").touch()
        dialled = Peer(stack, listener.accept()[0], b"line\n", b"line\n")
        dialled.ask()
        (app.directory / "go").touch()
        wait_for(
            lambda: len(copies(app)) == len(servers),
            f"a copy of each: {copies(app)} {app.read_log()}",
        )
        for name, (pid, says) in copies(app).items():
            assert sockets(pid) & sockets(servers[name]) == set(), name
            assert says == "0 0", "no connections, and it knows its place"
        for peer in [*served, dialled]:
            peer.ask()
        assert "Traceback" not in app.read_log()
        started = [psutil.Process(pid) for pid, _ in copies(app).values()]
        for pid in servers.values():
            psutil.Process(pid).kill()
        for peer in served[:-2]:
            peer.socket.settimeout(5)
            with pytest.raises((AssertionError, OSError)):
                peer.ask()
    wait_for(lambda: not any(each.is_running() for each in started), "the end of the copies")
