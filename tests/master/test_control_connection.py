"""One client of the control socket: its request, its replies, its descriptors."""

from __future__ import annotations

import contextlib
import json
import os
import socket

import pytest
from control_loop import Loop, Peer, ask

from gworker.master import control_connection


def test_one_call_from_request_to_exit(loop: Loop) -> None:
    peer = Peer(loop, ask(command="reload", wait=True))
    (call,) = loop.calls
    assert (call.command, call.arguments, call.gone) == ("reload", {"wait": True}, False)
    call.send({"step": "one\ntwo"})
    assert peer.reply() == {"step": "one\ntwo"}
    call.finish(1, error="no")
    assert peer.reply() == {"exit": 1, "error": "no"}
    assert peer.at_end()
    call.send({"late": 1})
    call.finish(0)
    assert loop.clients == 0


def test_a_request_byte_by_byte(loop: Loop) -> None:
    peer = Peer(loop)
    for byte in ask(command="status"):
        assert loop.calls == []
        peer.sock.send(bytes([byte]))
        loop.settle()
    assert loop.calls[0].command == "status"


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"nonsense\n",
        b"[]\n",
        b"1\n",
        b"{}\n",
        b'{"command": 1}\n',
        b"\xff\n",
        b"[" * 50000 + b"\n",
        b'"x"\n',
    ],
)
def test_what_is_no_request_is_answered(loop: Loop, line: bytes) -> None:
    peer = Peer(loop, line)
    reply = peer.reply()
    assert reply["exit"] == 1
    assert "expected a line of JSON" in reply["error"]
    assert peer.at_end()
    assert loop.calls == []
    assert loop.clients == 0


def test_a_request_without_end_is_cut(loop: Loop) -> None:
    peer = Peer(loop)
    peer.sock.setblocking(False)
    sent = 0
    while loop.clients and sent < 1 << 20:
        sent += peer.sock.send(b"x" * 4096)
        loop.settle()
    assert sent <= control_connection.MAX_REQUEST + 2 * 4096
    peer.sock.settimeout(5)
    assert "64 KiB" in peer.reply()["error"]


def test_the_largest_request_passes(loop: Loop) -> None:
    line = ask(command="x", pad="")
    request = ask(command="x", pad="p" * (control_connection.MAX_REQUEST - len(line) + 1))
    assert len(request) == control_connection.MAX_REQUEST + 1  # with its newline
    Peer(loop, request)
    assert loop.calls[0].command == "x"


def test_one_request_per_connection(loop: Loop) -> None:
    peer = Peer(loop, ask(command="one") + ask(command="two"))
    assert "one request" in peer.reply()["error"]
    peer = Peer(loop, ask(command="one"))
    peer.sock.sendall(ask(command="two"))
    loop.settle()
    assert [call.command for call in loop.calls] == ["one"]
    assert loop.calls[0].gone
    assert peer.at_end()


def test_a_client_that_leaves_is_gone(loop: Loop) -> None:
    peer = Peer(loop, ask(command="status"))
    peer.close()
    loop.settle()
    assert loop.calls[0].gone
    loop.calls[0].send({"status": 1})
    loop.calls[0].finish(0)
    assert loop.clients == 0


def test_a_client_that_left_before_the_answer(loop: Loop) -> None:
    """The write finds out before the read event does."""
    peer = Peer(loop, ask(command="status"))
    peer.close()
    loop.calls[0].send({"status": 1})
    assert loop.calls[0].gone
    loop.settle()


def test_a_large_reply_goes_out_piece_by_piece(loop: Loop) -> None:
    peer = Peer(loop, ask(command="status"))
    text = "x" * (control_connection.MAX_QUEUED - 100)
    loop.calls[0].send({"status": text})  # does not block, though the client does not read
    loop.calls[0].finish(0)
    loop.calls[0].send({"late": 1})
    assert loop.clients == 1
    received = b""
    while data := peer.sock.recv(65536):
        received += data
        loop.settle()
    first, second = received.splitlines()
    assert json.loads(first) == {"status": text}
    assert json.loads(second) == {"exit": 0}
    assert loop.clients == 0


def test_a_slow_reader_is_dropped(loop: Loop) -> None:
    Peer(loop, ask(command="status"))
    (call,) = loop.calls
    sent = 0
    while not call.gone:
        call.send({"step": "x" * 100_000})
        sent += 100_000
        assert sent < control_connection.MAX_QUEUED + 10_000_000
    assert loop.clients == 0


def count_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_descriptors_travel_with_their_reply(loop: Loop) -> None:
    peer = Peer(loop, ask(command="connections"))
    before = count_fds()
    fds = [os.memfd_create("rows") for _ in range(2)]
    os.write(fds[0], b"first")
    loop.calls[0].send({"pid": 1}, fds)
    for fd in fds:
        os.close(fd)
    data, received, _, _ = socket.recv_fds(peer.sock, 65536, 8)
    assert json.loads(data) == {"pid": 1, "fds": 2}
    assert os.pread(received[0], 10, 0) == b"first"
    for fd in received:
        os.close(fd)
    assert count_fds() == before


def test_queued_descriptors_are_bounded_and_closed(loop: Loop) -> None:
    before = count_fds()
    peer = Peer(loop, ask(command="connections"))
    (call,) = loop.calls
    with open("/dev/null") as null:
        call.send({"pad": "x" * 1_000_000})  # what follows must wait
        for _ in range(control_connection.MAX_QUEUED_FDS):
            call.send({"pid": 1}, [null.fileno()])
        assert not call.gone
        call.send({"pid": 1}, [null.fileno()])
    assert call.gone
    peer.close()
    assert count_fds() == before


def test_a_descriptor_that_is_none_drops_the_client_only(loop: Loop) -> None:
    Peer(loop, ask(command="connections"))
    loop.calls[0].send({"pid": 1}, [9999])
    assert loop.calls[0].gone


def sockets() -> set[str]:
    """All sockets that this process has open."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
    return {link for link in found if link.startswith("socket:")}


def test_what_an_upgrade_would_lose(loop: Loop) -> None:
    """A request that was not read, or one without its answer; but the request for the upgrade
    goes along."""
    assert not loop.server.is_busy()
    peer = Peer(loop)
    assert loop.server.is_busy(), "it has only just connected"
    loop.until(lambda: not loop.server.is_busy())
    peer.sock.sendall(ask(command="connections"))
    loop.until(loop.server.is_busy)
    loop.settle()
    assert loop.server.is_busy()
    loop.calls[0].finish(0)
    Peer(loop, ask(command="upgrade"))
    assert len(loop.calls) == 2
    assert not loop.server.is_busy()
