"""A chat room: one Worker serves the page, another one the conversation.

    gworker examples/chat.py

Then open http://127.0.0.1:8000 in two windows, and `gworker reload` while you talk: no client is
disconnected. Two processes serve the page, and two the room: what is said goes to a group, which
has its members in both, and in as many as `gworker scale room 8` makes. Page and room speak JSON
over the WebSocket:

    page → room    join: name, say: text, typing, alive
    room → page    welcome: name, history; joined, left: name, people; said: name, text; typing:
                   name; error: text
"""

import base64
import hashlib
import html
import itertools
import json
import os
import re
import time
from pathlib import Path
from typing import Any

from gworker import BrokerDown, Connection, Request, Response, Worker, messages

HTTP = os.environ.get("CHAT_HTTP", "http://127.0.0.1:8000")
SOCKET = os.environ.get("CHAT_WS", "ws://127.0.0.1:9501")

MAX_NAME, MAX_TEXT = 24, 1000  # characters
BURST, PER_SECOND = 10, 2  # messages that one person may send at once, and for long

web = Worker(HTTP, name="web", count=2)
room = Worker(SOCKET, name="room", count=2, max_package_size=16384, idle_timeout=180)


# ---- the page


def load_page(**values: Any) -> tuple[str, dict[str, str]]:
    """The page with its {{placeholders}} filled in, and a policy under which no other script can
    run in it."""
    page = Path(__file__).with_name("chat.html").read_text()
    for name, value in values.items():
        page = page.replace("{{" + name + "}}", html.escape(str(value)))
    policy = [
        "default-src 'none'",
        "connect-src ws:",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    for tag in "script", "style":
        (inline,) = re.findall(f"<{tag}>(.*)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        policy.append(f"{tag}-src 'sha256-{digest}'")
    headers = {
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    return page, {
        "Content-Security-Policy": "; ".join([*policy, "frame-ancestors 'none'"]),
        **headers,
    }


PAGE, HEADERS = load_page(socket=SOCKET, max_name=MAX_NAME, max_text=MAX_TEXT)


@web.on_message
def serve(connection: Connection, request: Request) -> None:
    """One page. The protocol leaves out the body where the method is HEAD."""
    if request.path != "/":
        connection.send(Response("Not found\n", 404, content_type="text/plain"))
    elif request.method not in ("GET", "HEAD"):
        connection.send(
            Response("GET or HEAD\n", 405, {"Allow": "GET, HEAD"}, content_type="text/plain")
        )
    else:
        connection.send(Response(PAGE, headers=HEADERS))


# ---- the room

# What was said is kept, for new members; that a member types is not. The members of SAID are the
# people in the room.
SAID, TYPING = "room:said", "room:typing"

messages.declare(SAID, mode="recoverable", history=50, ttl=24 * 3600, presence=True)


@room.on_message
def receive(connection: Connection, data: str | bytes) -> None:
    """Nothing that a page may send is trusted: what makes no sense is answered with an error."""
    try:
        take_token(connection)
        act(connection, json.loads(data))
    except (ValueError, RecursionError) as error:
        connection.send({"type": "error", "text": str(error)})
    except BrokerDown:
        connection.send({"type": "error", "text": "The room is out of reach. Please try again."})


def act(connection: Connection, message: Any) -> None:
    """Do what `message` asks for. ValueError if it is not one of those that may come now."""
    name = getattr(connection.context, "name", None)
    match message:
        case {"type": "join", "name": str(wanted)} if name is None:
            join(connection, clean("".join(filter(str.isprintable, wanted)), MAX_NAME))
        case {"type": "say", "text": str(text)} if name is not None:
            tell(SAID, type="said", name=name, text=clean(text, MAX_TEXT), time=time.time())
        case {"type": "typing"} if name is not None:
            tell(TYPING, type="typing", name=name)
        case {"type": "alive"}:
            pass  # to be heard of was enough: see idle_timeout
        case _:
            raise ValueError("That is not a message of this chat.")


def tell(group: str, **message: Any) -> None:
    """JSON with escapes: a page may send half of a surrogate pair, which UTF-8 does not have."""
    messages.publish(group, json.dumps(message))


def join(connection: Connection, wanted: str) -> None:
    """Let a client in, under a name that no other has, and tell it what was said.

    What is said between its history and its joining is sent as the first that it has missed.
    """
    name = take_name(connection, wanted)
    presence = {"name": name, "since": time.time()}
    seen = messages.position(SAID)
    past = messages.history(SAID)
    said = [json.loads(message) for _, message in past]
    connection.send(json.dumps({"type": "welcome", "name": name, "history": said}))
    connection.join(TYPING)
    connection.join(SAID, since=past[-1][0] if past else seen, presence=presence)
    connection.context.name = name


def take_name(connection: Connection, wanted: str) -> str:
    """The name that is wanted, or the first with a number behind it that is free in all
    processes: a user of that name is at this connection and at no other."""
    names = itertools.chain([wanted], (f"{wanted} {number}" for number in itertools.count(2)))
    return next(name for name in names if is_free(connection, name))


def is_free(connection: Connection, name: str) -> bool:
    connection.bind(name.casefold())
    return messages.connections(name.casefold()) == [connection.client_id]


@room.on_presence
def changed(
    group: str,
    joined: list[messages.Member],
    left: list[messages.Member],
    connections_here: list[Connection],
) -> None:
    """Called in each process that has people in the room. A leave is told 3 s later, and not
    at all if the member is back by then."""
    here = sorted(
        (member.presence["since"], member.presence["name"]) for member in messages.members(group)
    )
    people = [name for _, name in here]
    for kind, members in (("joined", joined), ("left", left)):
        for member in members:
            news = {"type": kind, "name": member.presence["name"], "people": people}
            text = json.dumps({**news, "time": time.time()})
            for connection in connections_here:
                connection.send(text)


def clean(text: str, limit: int) -> str:
    """`text` without control characters and outer space. ValueError if nothing or too much is
    left."""
    text = "".join(char for char in text if char >= " " or char == "\n").strip()
    if not 0 < len(text) <= limit:
        raise ValueError(f"Please write 1 to {limit} characters.")
    return text


def take_token(connection: Connection) -> None:
    """A person has a bucket of BURST tokens, into which PER_SECOND new ones fall. ValueError if it
    is empty."""
    now = time.monotonic()
    tokens, last = getattr(connection.context, "bucket", (BURST, now))
    tokens = min(BURST, tokens + (now - last) * PER_SECOND)
    if tokens < 1:
        raise ValueError("Not so fast, please.")
    connection.context.bucket = tokens - 1, now
