"""What waits to be sent and what waits to be handled: both are bounded, and nothing is lost or
mixed up."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import places
import pytest
from instance import DEADLINE, wait_for
from serving import Client, Served, serve, wait_stall

MB = 1 << 20

APP = places.app("buffers")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory, APP) as one:
        yield one


pytestmark = pytest.mark.timeout(120)


def framed(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload) + 4) + payload


def say(client: Client, protocol: str, words: str) -> None:
    """Send `words` as one message."""
    client.send(
        {"text": words.encode() + b"\n", "frame": framed(words.encode()), "tcp": words.encode()}[
            protocol
        ]
    )


def has_read(client: Client, size: int) -> None:
    assert len(client.exactly(size)) == size


# ---- sending


def test_send_does_not_block_and_refuses_when_it_is_full(app: Served) -> None:
    before = app.row("text")["send_failures"]
    with Client(app, "text", receive_buffer=4096) as client:
        client.send("big 12000000\nmore\nmore\n")
        client.wait_story(
            "full",
            "send True at once",
            "error SEND_FAIL send buffer full and drop package",
            "more False",
            "error SEND_FAIL send buffer full and drop package",
            "more False",
        )
        assert app.row("text")["send_failures"] == before + 2
        has_read(client, 12_000_001)
        client.wait_event("drain")
        client.send("more\n")
        assert client.line() == "more"  # and the connection is as good as new
    events = client.wait_event("close")
    assert events.count("full") == events.count("drain") == 1


def test_callbacks_that_another_greenlet_causes_do_not_overlap_either(app: Served) -> None:
    with Client(app, "text", receive_buffer=4096) as client:
        client.send("big 12000000\nrefused-twice\n")
        client.wait_event("begin error")
        client.send("hello\n")
        client.wait_event("message hello")
        assert client.events()[2:7] == [
            "begin error",
            "end error",
            "begin error",
            "end error",
            "message hello",
        ]


def test_below_the_bound_nothing_is_full(app: Served) -> None:
    with Client(app, "text") as client:
        client.send("bound 100000000\nbig 12000000\nmore\n")
        has_read(client, 12_000_001)
        assert client.line() == "more"
    client.wait_story("send True at once", "more True", "close")


def test_the_bound_of_one_connection(app: Served) -> None:
    with Client(app, "text", receive_buffer=4096) as client, Client(app, "text") as other:
        client.send("bound 100000000\nbig 12000000\nqueue\nmore\n")
        client.wait_event("more True")
        assert "full" not in client.events()
        other.send("big 12000000\nmore\n")
        other.wait_event("more False")


def test_full_again_after_it_was_drained(app: Served) -> None:
    with Client(app, "text", receive_buffer=65536) as client:
        for times in (1, 2):
            client.send("big 12000000\ndrain\n")
            # While the client does not read, the kernel cannot take all at once.
            wait_for(lambda times=times: client.events().count("full") == times, "on_buffer_full")
            has_read(client, 12_000_001)
        client.wait_event("drained True 0")
        wait_for(lambda: client.events().count("drain") == 2, "on_buffer_drain")
        assert client.events().count("full") == 2


def test_what_was_given_to_send_may_be_changed_afterwards(app: Served) -> None:
    with Client(app, "text") as client:
        client.send("big-bytearray 12000000\nmore\n")
        client.wait_event("more False")
        assert Counter(client.exactly(12_000_000)) == {ord("a"): 12_000_000}


def test_drain_waits_for_the_reader(app: Served) -> None:
    with Client(app, "text") as client:
        client.send("big 12000000\ndrain\n")
        client.wait_event("send True at once")
        assert not any(event.startswith("drained") for event in client.events())
        has_read(client, 12_000_001)
        client.wait_event("drained True 0")


def test_drain_of_nothing_returns_at_once(app: Served) -> None:
    with Client(app, "text") as client:
        client.send("drain\n")
        client.wait_event("drained True 0")


def test_drain_gives_up_after_its_timeout(app: Served) -> None:
    with Client(app, "text") as client:
        client.send("big 12000000\ndrain 0.1\n")
        wait_for(
            lambda: any(event.startswith("drained False") for event in client.events()),
            "the timeout",
        )


def test_drain_ends_when_the_peer_is_gone(app: Served) -> None:
    with Client(app, "text") as client:
        client.send("big 12000000\ndrain\n")
        client.wait_event("send True at once")
        client.reset()
    client.wait_event("drained False 0")
    client.wait_event("close")


def test_close_sends_what_is_queued_to_a_slow_reader(app: Served) -> None:
    with Client(app, "text", receive_buffer=65536) as client:
        client.send("bound 100000000\nbig 12000000\nclose\n")
        client.wait_event("closing")
        assert client.rest() == b"x" * 12_000_000 + b"\nbye\n"
    client.wait_story("send True at once", "closing", "close")


def test_a_reader_that_never_reads_is_cut(app: Served) -> None:
    with Client(app, "text", receive_buffer=4096) as client:
        client.send("bound 100000000\nbig 12000000\nclose\n")
        client.wait_event("closing")
        began = time.monotonic()
        client.wait_event("close")
        assert 2 < time.monotonic() - began < 20
        assert app.row("text")["connections"] == 0


def test_a_connection_that_closes_reads_no_more_messages(app: Served) -> None:
    with Client(app, "text", receive_buffer=4096) as client:
        client.send("bound 100000000\nbig 12000000\nclose\nafter\n")
        client.wait_event("closing")
        client.send("later\n")
        assert client.rest().endswith(b"bye\n")
    assert client.wait_event("close") == ["send True at once", "closing", "close"]


def test_messages_of_several_greenlets_do_not_interleave(app: Served) -> None:
    with Client(app, "text", receive_buffer=16384) as client:
        client.send("bound 100000000\ninterleave\n")
        got = Counter(client.line() for _ in range(8 * 40))
        assert got == {letter * 20_000: 40 for letter in "abcdefgh"}


# ---- receiving


@pytest.mark.parametrize("word", ["pause 0.3", "pause-and-sleep"])
def test_pause_and_resume(app: Served, word: str) -> None:
    with Client(app, "text") as client:
        client.send(word + "\n")
        client.wait_event("paused")
        client.send("a\nb\n")
        assert client.line() == "? a"
        assert client.line() == "? b"
        assert client.events() == ["paused", "resuming", "message a", "message b"]


def flooded(app: Served, name: str, payload: bytes) -> tuple[int, int]:
    """Send `payload` while the handler blocks; return by how much the process grew, and its
    answer."""
    server = app.server(name)
    (app.directory / "go").unlink(missing_ok=True)
    before = server.memory_info().rss
    with Client(app, name) as client:
        say(client, name, "hold")
        client.until(b"holding\n")
        client.socket.settimeout(None)
        sent = [0]

        def send() -> None:
            view = memoryview(payload)
            with suppress(OSError):  # the test sees that by what arrives
                for start in range(0, len(view), 65536):
                    client.socket.sendall(view[start : start + 65536])
                    sent[0] += 65536

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        wait_stall(sent)
        grown = server.memory_info().rss - before
        (app.directory / "go").touch()
        client.socket.settimeout(DEADLINE)
        answer = int(client.until(b"\n")[4 if name == "frame" else 0 : -1])
        sender.join(DEADLINE)
    return grown, answer


@pytest.mark.parametrize(
    ("name", "payload", "size"),
    [
        ("tcp", b"x" * (60 * MB - 3) + b"END", 60 * MB),
        ("text", (b"x" * 99 + b"\n") * 300_000 + b"END\n", 29_700_003),
        ("frame", framed(b"x" * 100_000) * 400 + framed(b"END"), 40_000_003),
    ],
    ids=["tcp", "text", "frame"],
)
def test_a_flood_does_not_fill_a_process_whose_handler_blocks(
    app: Served, name: str, payload: bytes, size: int
) -> None:
    grown, answer = flooded(app, name, payload)
    assert grown < 12 * MB
    assert answer == size  # and nothing was lost


def test_a_message_larger_than_what_may_wait(app: Served) -> None:
    (app.directory / "go").touch()
    with Client(app, "frame") as client:
        say(client, "frame", "hold")
        client.until(b"holding\n")
        client.send(framed(b"x" * (3 * MB - 3) + b"END"))
        assert client.until(b"\n")[4:-1] == b"%d" % (3 * MB)


def test_a_frame_of_the_largest_size_and_one_more(app: Served) -> None:
    with Client(app, "frame") as client:
        say(client, "frame", "limit 1000")
        assert client.exactly(12) == framed(b"limited\n")
        client.send(framed(b"x" * 996))
        assert client.exactly(1000) == framed(b"x" * 996)
        client.send(struct.pack(">I", 1001))
        assert client.rest() == b""
    client.wait_story("close")


def test_a_line_of_the_largest_size_and_one_more(app: Served) -> None:
    with Client(app, "text") as client:
        say(client, "text", "limit 1000")
        assert client.line() == "limited"
        client.send(b"x" * 1000 + b"\n")
        assert client.line() == "x" * 1000
        client.send(b"x" * 1001)
        assert client.rest() == b""
    client.wait_story("close")


@pytest.mark.parametrize("bad", [b"501", b"000", b"!", b"/", b"005/x"])
def test_a_package_protocol_that_refuses_or_fails(app: Served, bad: bytes) -> None:
    """Also an exception that is a bug of the protocol's costs this connection, and no other."""
    with Client(app, "sized") as client, Client(app, "sized") as bystander:
        client.send(b"004a")
        assert client.exactly(4) == b"004a"
        client.send(bad)
        assert client.is_cut()
        client.wait_story("close")
        bystander.send(b"004b")
        assert bystander.exactly(4) == b"004b"


def test_an_exception_of_a_protocol_is_logged_and_counted(app: Served) -> None:
    before = app.row("sized")["exceptions"]
    with Client(app, "sized") as client:
        client.send(b"/")
        app.wait_log("ZeroDivisionError", 5)
        wait_for(lambda: app.row("sized")["exceptions"] == before + 1, "it is counted", 5)


def test_a_package_in_pieces_and_many_in_one(app: Served) -> None:
    with Client(app, "sized") as client:
        for byte in b"010abcdefg":
            client.send(bytes([byte]))
        assert client.exactly(10) == b"010abcdefg"
        client.send(b"004a004b005cd")
        assert client.exactly(13) == b"004a004b005cd"


# ---- pipe


def pair(protocol: str, source: Client, destination: Client, bound: int = MB) -> None:
    """From now on the server forwards what `source` sends to `destination`."""
    say(destination, protocol, f"destination {bound}")
    assert destination.line() == "ready"
    say(source, protocol, "source")
    assert source.line() == "piped"


def test_pipe_is_no_faster_than_its_reader(app: Served) -> None:
    server = app.server("tcp")
    data = os.urandom(MB) * 60
    with Client(app, "tcp") as source, Client(app, "tcp", receive_buffer=65536) as destination:
        pair("tcp", source, destination)
        before = server.memory_info().rss
        sent = [0]

        def send() -> None:
            view = memoryview(data)
            for start in range(0, len(view), 65536):
                source.socket.sendall(view[start : start + 65536])
                sent[0] += 65536
            source.finish()

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        wait_stall(sent)
        assert sent[0] < len(data)
        assert server.memory_info().rss - before < 12 * MB
        assert destination.rest() == data
        sender.join(DEADLINE)
        assert source.rest() == b""
    source.wait_story("close")
    destination.wait_story("close")


def test_pipe_of_many_small_messages_loses_none(app: Served) -> None:
    lines = "".join(f"{number:06}{'x' * 93}\n" for number in range(100_000)).encode()
    with Client(app, "text") as source, Client(app, "text", receive_buffer=65536) as destination:
        pair("text", source, destination, 100_000)
        sent = [0]

        def send() -> None:
            view = memoryview(lines)
            with suppress(OSError):  # the test sees that by what arrives
                for start in range(0, len(view), 65536):
                    source.socket.sendall(view[start : start + 65536])
                    sent[0] += 65536
                source.finish()

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        wait_stall(sent)
        got = destination.rest()
        sender.join(DEADLINE)
        assert len(got) == len(lines)
        assert got == lines


@pytest.mark.parametrize("how", ["close", "reset"])
def test_pipe_closes_the_source_when_its_destination_is_gone(app: Served, how: str) -> None:
    with Client(app, "tcp") as source, Client(app, "tcp") as destination:
        pair("tcp", source, destination)
        destination.reset() if how == "reset" else destination.socket.close()
        assert source.is_cut()
    source.wait_story("close")
    destination.wait_story("close")


def test_pipe_closes_the_destination_when_its_source_is_gone(app: Served) -> None:
    with Client(app, "tcp") as source, Client(app, "tcp") as destination:
        pair("tcp", source, destination)
        source.send("last words")
        source.socket.close()
        assert destination.rest() == b"last words"


# ---- a peer that sends and never reads


def test_pings_of_a_peer_that_never_reads_do_not_fill_the_process(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    source = """
        socks = Worker("websocket://127.0.0.1:0")
        socks.on_message = lambda connection, data: None
    """
    with (
        serve(tmp_path_factory, source) as app,
        Client(app, "socks", receive_buffer=4096) as client,
    ):
        client.send(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        client.until(b"\r\n\r\n")
        server = app.server("socks")
        before = server.memory_info().rss
        pings = (b"\x89\xfd\0\0\0\0" + b"p" * 125) * 4000
        client.socket.settimeout(1)
        with suppress(OSError):
            for _ in range(100):  # 52 MB, unless the server stops reading or hangs up
                client.socket.sendall(pings)
        assert server.memory_info().rss - before < 16 * MB
