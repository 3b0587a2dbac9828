"""The services as ASGI applications, with what the standard library offers: uvicorn asgi:hello."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

HTML = b"text/html; charset=utf-8"


async def answer(
    send: Send,
    body: bytes,
    content_type: bytes = HTML,
    fields: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    head = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *fields]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Receive) -> bytes:
    pieces = []
    while True:
        event = await receive()
        pieces.append(event.get("body", b""))
        if not event.get("more_body"):
            return b"".join(pieces)


def field_of(scope: Scope, name: bytes) -> str:
    return next((value for key, value in scope["headers"] if key == name), b"").decode("latin-1")


def page_of(scope: Scope) -> str:
    return parse_qs(scope["query_string"].decode()).get("page", [""])[0]


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"Hello, world")


https = hello  # over TLS


async def read(scope: Scope, receive: Receive, send: Send) -> None:
    session = SimpleCookie(field_of(scope, b"cookie")).get("session")
    language = field_of(scope, b"accept-language")
    found = (scope["path"], page_of(scope), language, session.value if session else "")
    await answer(send, " ".join(found).encode())


async def respond(scope: Scope, receive: Receive, send: Send) -> None:
    fields = [(b"cache-control", b"no-store"), (b"x-page", page_of(scope).encode())]
    await answer(send, b"Hello, world", b"text/plain", fields)


async def document(scope: Scope, receive: Receive, send: Send) -> None:
    body = await read_body(receive)
    await answer(send, json.dumps(json.loads(body or b"0")).encode(), b"application/json")


async def upload(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"%d" % len(await read_body(receive)))


async def sleepy(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"].endswith("00"):
        await asyncio.sleep(0.05)
    await answer(send, b"Hello, world")


async def ws(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": event["bytes"]})
