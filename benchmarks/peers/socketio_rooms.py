"""Rooms on python-socketio with gevent: python socketio_rooms.py PORT REDIS_URL.

What clients say and hear stands in ../rooms.c; each message is an event "m".
"""

# ruff: noqa: E402 -- gevent patches first
from gevent import monkey

monkey.patch_all()

import logging
import sys

import socketio
from gevent.pywsgi import WSGIServer
from geventwebsocket.handler import WebSocketHandler

logging.disable(logging.CRITICAL)

port, url = int(sys.argv[1]), sys.argv[2]
server = socketio.Server(
    async_mode="gevent", client_manager=socketio.RedisManager(url), transports=["websocket"]
)


@server.on("m")
def heard(sid: str, text: str) -> None:
    what, group, *_ = text.split(" ", 2)
    if what == "#j":
        server.enter_room(sid, group)
        server.emit("m", f"#J {group}", to=sid)
    else:
        server.emit("m", text, room=group)


WSGIServer(
    ("127.0.0.1", port),
    socketio.WSGIApp(server),
    handler_class=WebSocketHandler,
    log=None,
    backlog=4096,
).serve_forever()
