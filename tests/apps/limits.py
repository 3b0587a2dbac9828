"""Limits on time and on connections, for clients and behind proxies."""

import os
import socketserver

from recording import record

from gworker import Worker
from gworker.http import Response

quick = {
    "header_timeout": 1,
    "handshake_timeout": 1,
    "send_timeout": 1,
    "message_timeout": 1,
    "close_timeout": 1,
}
lines = Worker("text://127.0.0.1:0", name="lines", keep_alive=1, **quick)
ptext = Worker(
    "text://0.0.0.0:0",
    name="ptext",
    handover=True,
    max_connections_per_address=2,
    proxy_protocol=True,
    handshake_timeout=1,
)
ptls = Worker(
    "https://127.0.0.1:0",
    name="ptls",
    proxy_protocol=True,
    tls={"certfile": "CERTIFICATE", "keyfile": "KEY"},
)
fweb = Worker(
    "http://0.0.0.0:0",
    name="fweb",
    forwarded_allow_ips="127.0.0.1,10.0.0.0/8",
    max_connections_per_address=3,
)
listeners = {
    lines: {"web": "http://127.0.0.1:0", "chat": "websocket://127.0.0.1:0"},
    ptext: {"pweb": "http://127.0.0.1:0", "pchat": "websocket://127.0.0.1:0"},
    ptls: {},
    fweb: {"fchat": "websocket://127.0.0.1:0"},
}


class Legacy(socketserver.StreamRequestHandler):
    def handle(self):
        self.rfile.readline()
        self.wfile.write(f"{self.client_address}\n".encode())


plegacy = Worker(
    "unix://" + os.path.abspath("p.sock"), name="plegacy", handler=Legacy, proxy_protocol=True
)
handlers = [lines, ptext, ptls, fweb, plegacy]


def who(c):
    return f"{c.remote_address} {c.remote_ip} {c.remote_port} {c.proxy_address} {c.transport}"


def page(connection, request):
    if request.path == "/big":
        connection.max_send_buffer_size = 100_000_000
        connection.send(Response(b"x" * 20_000_000))
    elif request.path == "/last":
        connection.max_send_buffer_size = 100_000_000
        connection.send(Response(b"x" * 16_000_000, headers={"Connection": "close"}))
    else:
        body = len(request.body)
        connection.send(
            f"{who(connection)} {request.client_ip} {request.scheme} {request.host} {body}"
        )


def say(connection, message):
    if message == "block":
        connection.max_send_buffer_size = 100_000_000
        connection.send("x" * 20_000_000)
        record(connection, "drained", connection.drain())
    elif message == "pid":
        connection.send(str(os.getpid()))
    elif message == "forwarded":
        connection.send(connection.request.client_ip)
    else:
        connection.send(who(connection))


def closed(connection):
    record(connection, "closed")


def began(worker):
    for name, url in listeners[worker].items():
        record(name, worker.listen(url))


def take(connection, message):
    (say if connection.protocol in ("text", "websocket") else page)(connection, message)


for each in listeners:
    each.on_message = take
    each.on_close = closed
    each.on_worker_start = began
