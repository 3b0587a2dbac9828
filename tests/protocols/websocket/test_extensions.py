"""Agreeing on permessage-deflate, both roles."""

from __future__ import annotations

import pytest
from websocket_bytes import frame, handshake

from gworker.errors import ProtocolError
from gworker.protocols.websocket.extensions import answer_offers, check_answer, offer
from gworker.protocols.websocket.options import Compression
from gworker.protocols.websocket.server import WebSocketProtocol

PLAIN = Compression()
KEEPING = Compression(context_takeover=True)
NO_CONTEXT = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("offers", "wanted", "answer"),
    [
        ("permessage-deflate", PLAIN, NO_CONTEXT),
        ("permessage-deflate; client_max_window_bits", PLAIN, NO_CONTEXT),
        (
            "permessage-deflate; client_max_window_bits=10",
            PLAIN,
            NO_CONTEXT + "; client_max_window_bits=10",
        ),
        (
            "permessage-deflate; server_max_window_bits=10",
            PLAIN,
            NO_CONTEXT + "; server_max_window_bits=10",
        ),
        (
            'permessage-deflate; server_max_window_bits="8"',
            PLAIN,
            NO_CONTEXT + "; server_max_window_bits=8",
        ),
        ("permessage-deflate", KEEPING, "permessage-deflate"),
        (NO_CONTEXT, KEEPING, NO_CONTEXT),
        (
            "permessage-deflate; server_no_context_takeover",
            KEEPING,
            "permessage-deflate; server_no_context_takeover",
        ),
        (
            "permessage-deflate; client_no_context_takeover",
            KEEPING,
            "permessage-deflate; client_no_context_takeover",
        ),
        # The window of ours that we want smaller is named only to a client that asks for windows.
        ("permessage-deflate", Compression(window_bits=11), NO_CONTEXT),
        (
            "permessage-deflate; client_max_window_bits; server_max_window_bits=13",
            Compression(window_bits=11),
            NO_CONTEXT + "; server_max_window_bits=11; client_max_window_bits=11",
        ),
        # Declined, and the next one taken.
        ("x-snappy, permessage-deflate", PLAIN, NO_CONTEXT),
        ("permessage-deflate; unknown, permessage-deflate", PLAIN, NO_CONTEXT),
        ("permessage-deflate; server_max_window_bits=16, permessage-deflate", PLAIN, NO_CONTEXT),
        ("permessage-deflate; server_no_context_takeover=1", PLAIN, ""),
        ("permessage-deflate; client_no_context_takeover=1", PLAIN, ""),
        ("permessage-deflate; server_max_window_bits", PLAIN, ""),
        ("permessage-deflate; server_max_window_bits=08", PLAIN, ""),
        ("permessage-deflate; server_max_window_bits=7", PLAIN, ""),
        ("permessage-deflate; client_max_window_bits=16", PLAIN, ""),
        ("permessage-deflate; client_max_window_bits; client_max_window_bits", PLAIN, ""),
        ("x-snappy", PLAIN, ""),
    ],
)
def test_what_the_server_answers(offers, wanted, answer):
    deflate, field = answer_offers(offers, wanted)
    assert field == answer
    assert (deflate is None) is (answer == "")
    protocol = WebSocketProtocol(100)
    protocol.configure({"compression": wanted})
    protocol.receive_data(handshake(Sec_WebSocket_Extensions=offers))
    protocol.next_event()
    protocol.accept_handshake()
    assert protocol.data_to_send().count(b"Sec-WebSocket-Extensions: %b\r\n" % answer.encode()) == (
        answer != ""
    )


def test_windows_are_those_agreed_on():
    deflate, _ = answer_offers(
        "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10", PLAIN
    )
    assert deflate is not None
    assert (deflate.agreement.bits, deflate.agreement.peer_bits) == (9, 10)


def test_without_compression_offers_are_ignored():
    protocol = WebSocketProtocol(100)
    protocol.configure({"compression": None})
    protocol.receive_data(handshake(Sec_WebSocket_Extensions="permessage-deflate"))
    protocol.next_event()
    protocol.accept_handshake()
    assert b"Extensions" not in protocol.data_to_send()
    protocol.receive_data(frame(0xC1, b"\x00"))
    with pytest.raises(ProtocolError, match="reserved bits"):
        protocol.next_event()


def test_extensions_are_not_the_applications():
    protocol = WebSocketProtocol(100)
    protocol.receive_data(handshake())
    protocol.next_event()
    with pytest.raises(ValueError, match="sets Sec-WebSocket-Extensions itself"):
        protocol.accept_handshake({"sec-websocket-extensions": "permessage-deflate"})


@pytest.mark.parametrize(
    ("answer", "wanted", "message"),
    [
        ("permessage-deflate", PLAIN, "server_no_context_takeover is missing"),
        ("x-snappy", PLAIN, "not offered"),
        ("permessage-deflate", None, "not offered"),
        ("permessage-deflate, permessage-deflate", KEEPING, "not offered"),
        ("permessage-deflate; a", KEEPING, "unknown parameter a"),
        ("permessage-deflate; server_max_window_bits", KEEPING, "instead of 8 to 15"),
        ("permessage-deflate; client_max_window_bits", KEEPING, "instead of 8 to 15"),
        (
            "permessage-deflate; server_max_window_bits=12",
            Compression(True, window_bits=11),
            "is not 11 at most",
        ),
        ("permessage-deflate", Compression(True, window_bits=11), "is not 11 at most"),
        (
            "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
            KEEPING,
            "twice",
        ),
    ],
)
def test_answers_that_the_client_refuses(answer, wanted, message):
    with pytest.raises(ValueError, match=message):
        check_answer(answer, wanted)


def test_the_client_takes_what_it_asked_for():
    assert check_answer("", PLAIN) is None
    deflate = check_answer(
        "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10", KEEPING
    )
    assert deflate is not None
    assert deflate.agreement[2:] == (10, False, 9, False)
    assert offer(Compression(True, window_bits=9)).endswith(
        "server_max_window_bits=9; client_max_window_bits=9"
    )
