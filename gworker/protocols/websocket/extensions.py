"""Agreeing on permessage-deflate (RFC 7692 section 7.1), both roles.

    answer_offers(field, wanted)     the server: what is agreed on, and the field that says so
    offer(wanted)                    the client: the field that asks
    check_answer(field, wanted)      the client: what the server agreed to

A server names nothing that was not asked for, except that either side forgets its context, which
section 7.1.1
allows: some clients refuse a window that they did not ask for.
"""

from __future__ import annotations

import re

from gworker.http.upgrade import Parameters, parse_extensions
from gworker.protocols.websocket.deflate import Agreement, Deflate
from gworker.protocols.websocket.options import Compression

NAME = "permessage-deflate"
OURS_FORGETS, PEERS_FORGETS = "server_no_context_takeover", "client_no_context_takeover"
SERVER_BITS, CLIENT_BITS = "server_max_window_bits", "client_max_window_bits"

# Section 7.1.2.1: no leading zeroes.
_BITS = re.compile(r"8|9|1[0-5]")


def _flag(parameters: Parameters, key: str) -> bool:
    # Whether `key` is there. ValueError if it has a value.
    if parameters.get(key) is not None:
        raise ValueError(f"{key} has a value")
    return key in parameters


def _bits(parameters: Parameters, key: str, default: int, may_be_bare: bool = False) -> int:
    # The window of `key`. ValueError for what is none.
    value = parameters.get(key)
    if value is None and (may_be_bare or key not in parameters):
        return default
    if value is None or not _BITS.fullmatch(value):
        raise ValueError(f"{key} is {value!r} instead of 8 to 15")
    return int(value)


def _check_known(parameters: Parameters) -> None:
    if unknown := set(parameters) - {OURS_FORGETS, PEERS_FORGETS, SERVER_BITS, CLIENT_BITS}:
        raise ValueError(f"unknown parameter {min(unknown)}")


def answer_offers(field: str, wanted: Compression) -> tuple[Deflate | None, str]:
    """What the server takes of a client's offers, and its answer; (None, "") if none fits.

    ValueError if `field` is malformed, which is the end of the handshake (RFC 6455 section 9.1).
    """
    for name, parameters in parse_extensions(field):
        if name == NAME and parameters is not None:
            try:
                return _take(parameters, wanted)
            except ValueError:  # this one is declined; the client may have offered another
                continue
    return None, ""


def _take(offered: Parameters, wanted: Compression) -> tuple[Deflate, str]:
    _check_known(offered)
    ours_forgets = _flag(offered, OURS_FORGETS) or not wanted.context_takeover
    peers_forgets = _flag(offered, PEERS_FORGETS) or not wanted.context_takeover
    bits = min(_bits(offered, SERVER_BITS, 15), wanted.window_bits)
    peer_bits = 15  # no client is asked for less that does not name its window
    if CLIENT_BITS in offered:
        peer_bits = min(_bits(offered, CLIENT_BITS, 15, may_be_bare=True), wanted.window_bits)
    said = {
        OURS_FORGETS: ours_forgets,
        PEERS_FORGETS: peers_forgets,
        f"{SERVER_BITS}={bits}": SERVER_BITS in offered,
        f"{CLIENT_BITS}={peer_bits}": peer_bits < 15 or offered.get(CLIENT_BITS),
    }
    agreement = Agreement(
        wanted.level, wanted.threshold, bits, ours_forgets, peer_bits, peers_forgets
    )
    return Deflate.by(agreement), "; ".join([NAME, *(each for each in said if said[each])])


def offer(wanted: Compression) -> str:
    parts = [NAME]
    if not wanted.context_takeover:
        parts += [OURS_FORGETS, PEERS_FORGETS]
    if wanted.window_bits < 15:
        parts += [f"{SERVER_BITS}={wanted.window_bits}", f"{CLIENT_BITS}={wanted.window_bits}"]
    else:
        parts.append(CLIENT_BITS)
    return "; ".join(parts)


def check_answer(field: str, wanted: Compression | None) -> Deflate | None:
    """What the server took of `offer(wanted)`, None if nothing. ValueError if it took what was not
    offered."""
    chosen = parse_extensions(field)
    if not chosen:
        return None
    if wanted is None or len(chosen) > 1 or chosen[0][0] != NAME:
        raise ValueError("the server chose an extension not offered")
    parameters = chosen[0][1]
    if parameters is None:
        raise ValueError("a parameter is there twice")
    _check_known(parameters)
    server_forgets = _flag(parameters, OURS_FORGETS)
    if not wanted.context_takeover and not server_forgets:
        raise ValueError(f"{OURS_FORGETS} is missing")
    peer_bits = _bits(parameters, SERVER_BITS, 15)
    if peer_bits > wanted.window_bits:
        raise ValueError(f"{SERVER_BITS} is not {wanted.window_bits} at most")
    bits = min(_bits(parameters, CLIENT_BITS, 15), wanted.window_bits)
    forgets = _flag(parameters, PEERS_FORGETS) or not wanted.context_takeover
    return Deflate.by(
        Agreement(wanted.level, wanted.threshold, bits, forgets, peer_bits, server_forgets)
    )
