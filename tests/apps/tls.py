"""TLS for every protocol; the certificates lie in its directory."""

import os
import socketserver

from recording import record

from gworker import Timer, Worker

tls = {"certfile": "server.pem", "keyfile": "server.key"}
shown = {**tls, "sni": {"shop.example.com": ("shop.pem", "shop.key")}}

web = Worker(
    "https://127.0.0.1:0", name="web", tls=shown, max_package_size=20_000_000, handover=True
)
sock = Worker("wss://127.0.0.1:0", name="sock", tls=tls, handover=True)
echo = Worker(
    "tls://127.0.0.1:0", name="echo", tls=tls, handshake_timeout=1, max_send_buffer_size=100_000_000
)
kept = Worker(
    "text://127.0.0.1:0",
    name="kept",
    transport="ssl",
    reloadable=False,
    tls={"certfile": "kept.pem", "keyfile": "kept.key", "verify": "optional", "ca_certs": "ca.pem"},
)
old = Worker("tls://127.0.0.1:0", name="old", tls=tls, handshake_timeout=1, max_connections=2)

BIG = os.urandom(1000) * 10_000


@web.on_message
def answer(connection, request):
    if request.path == "/big":
        connection.send(BIG)
    elif request.method == "POST":
        connection.send(request.body)
    else:
        info = connection.tls
        agreed = f"{info.version} {info.alpn} {info.sni}"
        connection.send(f"{connection.transport} {request.scheme} {connection.protocol} {agreed}")


@sock.on_message
def repeat(connection, message):
    connection.send(message)


@echo.on_connect
def connected(connection):
    record(connection, "connect", connection.tls.version)


@echo.on_message
def back(connection, data):
    if data.startswith(b"pause"):
        connection.pause_recv()
        Timer.add(0.3, connection.resume_recv, persistent=False)
    connection.send(data)


@echo.on_close
def closed(connection):
    record(connection, "close", connection.tls.version)


@kept.handler
def serve(connection):
    for line in connection:
        certificate = connection.tls.peer_cert
        name = (
            dict(pair for (pair,) in certificate["subject"])["commonName"]
            if certificate
            else "nobody"
        )
        connection.send(f"{line} {name}")


class Lines(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.upper() + self.request.version().encode())


old.handler = Lines
