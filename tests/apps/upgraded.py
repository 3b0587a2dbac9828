"""Listeners of every kind, which live through an upgrade."""

import os

from gworker import Worker

lines = Worker("text://127.0.0.1:0", name="lines", count=2, handover=True)
web = Worker("http://127.0.0.1:0", name="web")
slots = Worker("text://127.0.0.1:0", name="slots", count=2, reuse_port=True)
local = Worker(f"unix://{os.getcwd()}/local.sock", name="local", protocol="text")
lines.on_message = local.on_message = slots.on_message = lambda c, line: c.send(
    f"{os.getpid()} {line}"
)
web.on_message = lambda c, request: c.send("ok")
