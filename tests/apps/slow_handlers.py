"""Callbacks that wait for too long, of every kind."""

import socketserver
import time

from recording import record

import gworker
from gworker import HandlerTimeout, Worker
from gworker.http import Response

LIMIT = 0.4

web = Worker("http://127.0.0.1:0", name="web", handler_timeout=LIMIT, stream_above=1000)
ws = Worker("websocket://127.0.0.1:0", name="ws", handler_timeout=LIMIT)
text = Worker("text://127.0.0.1:0", name="text", handler_timeout=LIMIT)
loop = Worker("text://127.0.0.1:0", name="loop", handler_timeout=LIMIT)
old = Worker("tcp://127.0.0.1:0", name="old", handler_timeout=LIMIT)
datagrams = Worker("udp://127.0.0.1:0", name="udp", handler_timeout=LIMIT)
own = Worker("text://127.0.0.1:0", name="own")
wsgi = Worker("http://127.0.0.1:0", name="wsgi", handler_timeout=LIMIT)
full = Worker("tcp://127.0.0.1:0", name="full", handler_timeout=LIMIT)


@web.on_message
def answer(connection, request):
    if request.path == "/slow":
        try:
            time.sleep(30)
        except Exception:
            record(connection, "caught")
        finally:
            record(connection, "cleaned")
    elif request.path == "/streamed":
        return Response.stream(slowly())
    elif request.path == "/begun":
        connection.send(Response.stream(slowly()))
        time.sleep(30)
    elif request.path == "/stubborn":
        for _ in range(3):
            try:
                time.sleep(30)
            except HandlerTimeout as late:
                record(connection, f"after {late.seconds}")
    elif request.path == "/upload":
        return str(sum(len(piece) for piece in request.stream))
    elif request.path == "/messages":
        for _ in range(5):
            time.sleep(LIMIT / 3)
    return "done"


def slowly():
    for _ in range(4):
        yield b"piece "
        time.sleep(LIMIT / 2)


@ws.on_websocket_connect
def admit(connection, request):
    if request.path == "/slow":
        time.sleep(30)


@ws.on_message
@text.on_message
def say(connection, data):
    if data == "slow":
        time.sleep(30)
    connection.send(data)


@text.on_close
def gone(connection):
    record(connection, "closed")


@loop.handler
def serve(connection):
    for message in connection:
        time.sleep(float(message))
        connection.send(message)


@old.handler
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            time.sleep(float(line))
            self.wfile.write(line)


@datagrams.on_message
def received(connection, data):
    if data == b"slow":
        time.sleep(30)
    connection.send(data)


def application(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        try:
            time.sleep(30)
        except Exception:
            record(environ["REMOTE_PORT"], "caught")
    start_response("200 OK", [])
    return slowly() if environ["PATH_INFO"] == "/streamed" else [b"done"]


wsgi.wsgi = application


@full.on_message
def fill(connection, data):
    for _ in range(4):
        connection.send(b"x" * 4_000_000)
        connection.drain()
    connection.close()


@own.on_message
@gworker.handler_timeout(LIMIT)
def limited(connection, data):
    if data == "theirs":
        connection.on_message = theirs
    time.sleep(float(data) if data[0].isdigit() else 0)
    connection.send(data)


@gworker.handler_timeout(0)
def theirs(connection, data):
    time.sleep(float(data))
    connection.send(data)
