"""Answers of every kind for the access log, and callbacks of the instance."""

import socketserver

from recording import record

from gworker import Worker
from gworker.http import Response

web = Worker("http://127.0.0.1:0", name="web")
ws = Worker("websocket://127.0.0.1:0", name="ws", handover=True)
old = Worker("tcp://127.0.0.1:0", name="old")
hooked = Worker(name="hooked")


@web.on_message
def answer(connection, request):
    if request.path == "/boom":
        raise ValueError("on purpose\nin two lines")
    if request.path == "/never":
        record(connection, "asked")
        return
    if request.path == "/bye":
        connection.close()
    elif request.path == "/raw":
        connection.send(b"HTTP/1.1 202 Accepted\r\n\r\nhello", raw=True)
        connection.close()
    elif request.path == "/big":
        connection.send(b"x" * 8_000_000)
    elif request.path == "/interim":
        connection.send(Response("", 103))
        connection.send(Response("made", 201))
    else:
        connection.send("hello")


@ws.on_websocket_connect
def admit(connection, request):
    if request.path == "/forbidden":
        connection.close()


@ws.on_message
def echo(connection, data):
    connection.send(data)
    if data == "go":
        connection.close(code=4002, reason="gone")


@old.handler
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline())


def note(*words):
    with open("hooks", "a") as file:
        file.write(" ".join(map(str, words)) + chr(10))


@hooked.on_worker_exit
def left(worker, id, pid, reason):
    note("exit", worker.name, id, pid, reason)


@hooked.on_master_reload
def reloaded(worker):
    note("reload", worker.name)
    raise RuntimeError("a hook that fails")


@hooked.on_master_stop
def stopped(worker):
    note("stop", worker.name)
