"""WebSocket in a running instance: what is agreed on, signs of life, how it ends; and all of it
after a handover."""

from __future__ import annotations

import re
from collections.abc import Iterator

import places
import pytest
from instance import DEADLINE, wait_for
from serving import Client, Served, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import ClientConnection, connect

pytestmark = pytest.mark.timeout(120)

APP = places.app("websockets")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, APP) as one:
        yield one


def joined(
    app: Served, name: str = "sock", path: str = "/", **arguments: object
) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{app.port(name)}{path}", open_timeout=DEADLINE, **arguments)  # type: ignore[arg-type]


class Raw(Client):
    """A WebSocket of which a test writes each byte."""

    def __init__(self, app: Served, name: str = "sock", **fields: str) -> None:
        super().__init__(app, name)
        lines = [f"{key.replace('_', '-')}: {value}\r\n" for key, value in fields.items()]
        self.send(
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: "
            "Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{''.join(lines)}\r\n"
        )
        self.status, self.fields, _ = self.answer()

    def frame(self) -> tuple[int, bytes]:
        first, size = self.exactly(2)
        return first, self.exactly(size)

    def masked(self, first: int, payload: bytes = b"") -> None:
        self.send(bytes([first, 0x80 | len(payload), 0, 0, 0, 0]) + payload)


# --- what is agreed on


@pytest.mark.parametrize(
    ("path", "offered", "chosen"),
    [
        ("/", ["v1", "v2"], "v2"),
        ("/", ["v1", "v3"], "v1"),
        ("/", ["v3"], None),
        ("/", None, None),
        ("/take/v3", ["v1", "v3"], "v3"),
        ("/header/v1", ["v1", "v2"], "v1"),
    ],
)
def test_subprotocols(app, path, offered, chosen):
    with joined(app, path=path, subprotocols=offered) as client:
        assert client.subprotocol == chosen
        client.send("state")
        assert client.recv().split(" ")[1] == (chosen or "")


def test_a_subprotocol_that_was_not_offered(app):
    for path in ("/take/v9", "/header/v9"):
        with pytest.raises(InvalidStatus, match="500"):
            joined(app, path=path, subprotocols=["v1"])
    assert "the client does not offer the subprotocol 'v9', but v1" in app.read_log()


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 101),
        ("https://example.com", 101),
        ("HTTPS://EXAMPLE.COM", 101),
        ("https://a.example.org", 101),
        ("https://a.b.example.org", 101),
        ("https://example.org", 403),
        ("https://.example.org", 403),
        ("http://example.com", 403),
        ("https://example.com:8443", 403),
        ("https://evil-example.org", 403),
        ("https://example.com.evil.org", 403),
        ("null", 403),
    ],
)
def test_origins(app, origin, status):
    with Raw(app, **({"Origin": origin} if origin else {})) as client:
        assert client.status == status
        if status == 403:
            assert client.rest() == b""  # its body was read by its length


def test_the_refusal_names_the_origin(app):
    with pytest.raises(InvalidStatus) as caught:
        joined(app, origin="https://evil.org")
    assert caught.value.response.status_code == 403
    assert b"the origin https://evil.org may not open a WebSocket here" in (
        caught.value.response.body or b""
    )


@pytest.mark.parametrize("compression", ["deflate", None])
def test_compression(app, compression):
    for name in ("sock",):
        with joined(app, name, compression=compression) as client:
            assert ("Sec-WebSocket-Extensions" in client.response.headers) is (
                compression is not None
            )
            for message in ("a" * 5000, b"b" * 70_000, "a" * 5000, "short"):
                client.send(message)
                assert client.recv() == message


# --- how it ends


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1013, 1014, 3000, 4999])
def test_closing_with_a_code(app, code):
    with joined(app) as client:
        port = client.local_address[1]
        client.send(f"close {code}")
        assert client.recv() == "last"
        with pytest.raises(ConnectionClosed):
            client.recv()
        assert (client.close_code, client.close_reason) == (code, "rrr")
        app.wait_story(port, f"closed {code} rrr")  # its answer repeats both


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 3200])
def test_codes_and_reasons_that_may_not_be_sent(app, code):
    with joined(app) as client:
        client.send(f"close {code}")
        assert re.search(
            f"^{code} is not a close code|at most 123 bytes of UTF-8, not 200", client.recv()
        )
        client.send("still there")
        assert client.recv() == "still there"


def test_what_the_peer_said(app):
    with joined(app) as client:
        client.send("state")
        assert client.recv().endswith("  None ")
        port = client.local_address[1]
        client.close(4001, "gone fishing")
        app.wait_story(port, "closed 4001 gone fishing")
    with Raw(app) as client:
        client.masked(0x88)
        client.wait_story("closed 1005 ")
    with Raw(app) as client:
        client.finish()
        client.wait_story("closed 1006 ")
    with Raw(app) as client:
        client.masked(0xFF)
        client.wait_story("closed 1006 ")
    client = Raw(app)
    client.reset()
    app.wait_story(client.port, "closed 1006 ")


def test_other_protocols_have_no_codes(app):
    with Client(app, "mute") as client:
        client.send("x")
        assert client.exactly(10) == b"None '' ''"
        client.finish()
        client.wait_story("closed None ")


# --- signs of life


def test_who_answers_stays(app):
    with joined(app, "live", ping_interval=None) as client, Raw(app, "live") as talker:
        for _ in range(4):
            assert talker.frame()[0] == 0x89
            talker.masked(0x82, b"0")  # no Pong, but a message
            assert talker.frame() == (0x81, b"slept")
        client.send("0")
        assert client.recv() == "slept"


def test_a_slow_handler_costs_no_other_connection(app):
    with joined(app, "live", ping_interval=None) as client:
        client.send("1.5")
        assert client.recv(timeout=DEADLINE) == "slept"


def test_who_does_not_answer_is_closed(app):
    with Raw(app, "live") as client:
        assert client.frame() == (0x89, b"")
        first, payload = client.frame()
        while first == 0x89:
            first, payload = client.frame()
        assert (first, payload) == (0x88, b"\x03\xf3no answer to a ping")
        assert client.rest() == b""
        client.wait_story("closed 1006 ")
    assert "no answer to a ping within 0.4 s" in app.read_log()


# --- and after a handover: the last test, because it reloads the instance


def test_all_of_it_moves(app):
    text = "".join(chr(33 + n * n % 90) for n in range(4000))
    forgets = ClientPerMessageDeflateFactory(
        server_no_context_takeover=True, client_no_context_takeover=True
    )
    with (
        joined(app, subprotocols=["v1"], compression=None, extensions=[forgets]) as client,
        joined(app) as keeps,
        Raw(app, "live") as asked,
        Raw(app, "live") as silent,
    ):
        for _ in range(2):
            client.send(text)
            assert client.recv() == text
            keeps.send(text)
            assert keeps.recv() == text
        client.send("state")
        before = client.recv().split(" ")
        done = app.run("reload", "app")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 connection cannot move: a compression context (sock)\n" in done.stdout
        with pytest.raises(ConnectionClosed) as closed:
            keeps.recv(DEADLINE)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012, "a context of compression cannot be copied"
        for _ in range(2):
            client.send(text)
            assert client.recv() == text
        client.send("state")
        after = client.recv().split(" ")
        assert (before[0] != after[0], after[1:]) == (True, before[1:])
        wait_for(lambda: app.events(silent.port) != [], "the silent one is closed")
        while (frame := asked.frame())[0] == 0x89:
            pass
        assert frame[0] == 0x88
