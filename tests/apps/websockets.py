"""WebSockets with subprotocols, compression, and pings."""

import os
import time

from recording import record

from gworker import Worker

sock = Worker(
    "websocket://127.0.0.1:0",
    name="sock",
    subprotocols=["v2", "v1"],
    compression="context-takeover",
    origins=["https://example.com", "https://*.example.org"],
    handover=True,
)
live = Worker(
    "websocket://127.0.0.1:0", name="live", ping_interval=0.4, ping_timeout=0.4, handover=True
)
mute = Worker("tcp://127.0.0.1:0", name="mute", ping_interval=0.1, ping_timeout=0.1)


@sock.on_websocket_connect
def decide(connection, request):
    if request.path.startswith("/take/"):
        connection.subprotocol = request.path[6:]
    elif request.path.startswith("/header/"):
        connection.headers = {"Sec-WebSocket-Protocol": request.path[8:]}


@sock.on_message
def message(connection, data):
    if isinstance(data, str) and data.startswith("close "):
        try:
            connection.close("last", int(data[6:]), "r" * (200 if data.endswith("200") else 3))
        except ValueError as error:
            connection.send(str(error))
    elif data == "state":
        connection.send(
            f"{os.getpid()} {connection.subprotocol} {connection.close_code} "
            f"{connection.close_reason}"
        )
    else:
        connection.send(data)


@live.on_message
def slow(connection, data):
    time.sleep(float(data))
    connection.send("slept")


@mute.on_message
def say(connection, data):
    connection.send(
        f"{connection.close_code} {connection.close_reason!r} {connection.subprotocol!r}"
    )


@sock.on_close
@live.on_close
@mute.on_close
def closed(connection):
    record(connection, "closed", connection.close_code, connection.close_reason)
