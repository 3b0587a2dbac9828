"""All examples that have connections, in one instance: one Worker for each, of its name, with one
process.

TLS: a directory with site.pem and site.key.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from gworker import Worker

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
TLS = Path(os.environ["TLS"])

SCHEMES = {
    "broadcast": "text", "clock": "http", "device_gateway": "tcp", "files": "tcp",
    "heartbeat": "text",
    "http_api": "http", "json_lines": "jsonl", "one_port": "http", "proxy": "tcp",
    "text_shout": "text",
    "tls_echo": "text", "unix_echo": "unix", "upload": "http", "websocket_echo": "websocket",
}  # fmt: skip
"""Those that declare one Worker, which listens as LISTEN says."""

FUNCTIONS = {"echo": ("echo", "on_message", "tcp"), "session": ("guess", "handler", "text"),
             "legacy_socketserver": ("Upper", "handler", "tcp")}  # fmt: skip
"""Those that are served with --bind."""

sys.path.insert(0, str(EXAMPLES))
os.environ |= {
    "CERT": str(TLS / "site.pem"),
    "KEY": str(TLS / "site.key"),
    "UPLOADS": str(TLS / "uploads"),
    "UPSTREAM": f"unix://{TLS}/unix_echo.sock",
    "CHAT_HTTP": "http://127.0.0.1:0",
    "CHAT_WS": "ws://127.0.0.1:0",
    "WEB": "http://127.0.0.1:0",
    "LINES": "text://127.0.0.1:0",
}


def load() -> list[Worker]:
    """Import each, and take what it declares."""
    found = []
    for name, scheme in SCHEMES.items():
        os.environ["LISTEN"] = (
            f"unix://{TLS}/{name}.sock" if scheme == "unix" else f"{scheme}://127.0.0.1:0"
        )
        module = importlib.import_module(name)
        (one,) = {
            id(each): each for each in vars(module).values() if isinstance(each, Worker)
        }.values()
        one.name, one.count = name, 1
        found.append(one)
    for name, (attribute, role, scheme) in FUNCTIONS.items():
        function = getattr(importlib.import_module(name), attribute)
        found.append(Worker(f"{scheme}://127.0.0.1:0", name=name, **{role: function}))
    chat, start = importlib.import_module("chat"), importlib.import_module("start")
    chat.web.name, chat.room.name = "chat.web", "chat.room"
    start.web.name, start.lines.name = "start.web", "start.lines"
    return [*found, chat.web, chat.room, start.web, start.lines]


handlers = load()
for each in handlers:
    each.count = 1
