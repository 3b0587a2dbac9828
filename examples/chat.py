"""A chat room: one Worker serves the page, another one the conversation.

    gworker examples/chat.py

Then open http://127.0.0.1:8000 in two windows, and `gworker reload` while you talk: no client is
disconnected. The page is the same for everybody, so two processes serve it; the room is in the
memory of its process, so it has exactly one, and `take_over` gives it to the next. Both speak JSON
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
from collections import deque
from pathlib import Path
from typing import Any

from gworker import Connection, Request, Response, Worker

HTTP = os.environ.get("CHAT_HTTP", "http://127.0.0.1:8000")
SOCKET = os.environ.get("CHAT_WS", "ws://127.0.0.1:9501")

MAX_NAME, MAX_TEXT = 24, 1000  # characters
BURST, PER_SECOND = 10, 2  # messages that one person may send at once, and for long

web = Worker(HTTP, name="web", count=2)
room = Worker(SOCKET, name="room", count=1, max_package_size=16384, idle_timeout=180)


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

people: dict[str, Connection] = {}  # by name
history: deque[dict[str, Any]] = deque(maxlen=50)


@room.on_message
def receive(connection: Connection, data: str | bytes) -> None:
    """Nothing that a page may send is trusted: what makes no sense is answered with an error."""
    try:
        take_token(connection)
        act(connection, json.loads(data))
    except (ValueError, RecursionError) as error:
        connection.send(json.dumps({"type": "error", "text": str(error)}))


def act(connection: Connection, message: Any) -> None:
    """Do what `message` asks for. ValueError if it is not one of those that may come now."""
    name = getattr(connection.context, "name", None)
    match message:
        case {"type": "join", "name": str(wanted)} if name is None:
            join(connection, clean("".join(filter(str.isprintable, wanted)), MAX_NAME))
        case {"type": "say", "text": str(text)} if name is not None:
            history.append({"name": name, "text": clean(text, MAX_TEXT), "time": time.time()})
            tell_all(type="said", **history[-1])
        case {"type": "typing"} if name is not None:
            tell_all(type="typing", name=name)
        case {"type": "alive"}:
            pass  # to be heard of was enough: see idle_timeout
        case _:
            raise ValueError("That is not a message of this chat.")


def join(connection: Connection, wanted: str) -> None:
    """Let a client in, under a name that no other has."""
    names = itertools.chain([wanted], (f"{wanted} {number}" for number in itertools.count(2)))
    taken = {name.casefold() for name in people}
    connection.context.name = name = next(name for name in names if name.casefold() not in taken)
    connection.context.history = history
    connection.send(json.dumps({"type": "welcome", "name": name, "history": list(history)}))
    people[name] = connection
    tell_all(type="joined", name=name, people=list(people), time=time.time())


@room.on_takeover
def take_over(connection: Connection) -> None:
    """A reload has moved this connection here, into a new process; what that has to know came along
    in `context`."""
    context = connection.context
    if not hasattr(context, "name"):
        return
    missing = [message for message in context.history if message not in history]
    if missing:
        everything = sorted([*history, *missing], key=lambda message: message["time"])
        history.clear()
        history.extend(everything)
    context.history = history
    if (
        people.setdefault(context.name, connection) is not connection
    ):  # somebody has just come with this name
        join(connection, context.name)


@room.on_close
def leave(connection: Connection) -> None:
    """Called once for each connection, however it ended."""
    name = getattr(connection.context, "name", None)
    if name is not None:
        del people[name]
        tell_all(type="left", name=name, people=list(people), time=time.time())


def tell_all(**message: Any) -> None:
    """`send` never blocks: a slow reader is skipped and holds up no other."""
    text = json.dumps(message)
    for connection in list(people.values()):
        connection.send(text)


def clean(text: str, limit: int) -> str:
    """`text` without control characters and outer space. ValueError if nothing or too much is
    left."""
    text = "".join(char for char in text if char >= " " or char == "\n").strip()
    if not 0 < len(text) <= limit:
        raise ValueError(f"Please write 1 to {limit} characters.")
    return text


def take_token(connection: Connection) -> None:
    """Everybody has a bucket of BURST tokens, into which PER_SECOND new ones fall. ValueError if it
    is empty."""
    now = time.monotonic()
    tokens, last = getattr(connection.context, "bucket", (BURST, now))
    tokens = min(BURST, tokens + (now - last) * PER_SECOND)
    if tokens < 1:
        raise ValueError("Not so fast, please.")
    connection.context.bucket = tokens - 1, now
