"""Bodies that are read as they come, and answers that are sent in pieces."""

import hashlib
import os
import time

import gevent
from recording import outside, record

from gworker import Timer, Worker
from gworker.http import Event, Response, Static

limits = {"stream_above": "4K", "max_package_size": 20000, "header_timeout": 1}
web = Worker("http://127.0.0.1:0", name="web", handover=True, **limits)
talk = Worker("http://127.0.0.1:0", name="talk", stream_above=0)


@web.on_message
def answer(connection, request):
    if isinstance(request, (str, bytes)):
        connection.send(request)
    else:
        globals()[request.path[1:].partition("/")[0] or "root"](connection, request)


def root(connection, request):
    connection.send("root")


def size(connection, request):
    """How many bytes, and their digest."""
    count, digest = 0, hashlib.sha256()
    while piece := request.stream.read(10000):
        count += len(piece)
        digest.update(piece)
    record(connection, "queue", connection.recv_queue)
    connection.send(f"{count} {digest.hexdigest()}")


def late(connection, request):
    """Reads nothing for a while."""
    record(connection, "began")
    while not os.path.exists("go"):
        time.sleep(0.01)
    size(connection, request)


def whole(connection, request):
    connection.send(str(len(request.body)))


def ignore(connection, request):
    connection.send("ignored")


def form(connection, request):
    record(connection, sorted((name, len(value)) for name, value in request.form.items()))
    files = {
        name: [file.filename, hashlib.sha256(file.read()).hexdigest()]
        for name, file in request.files.items()
    }
    connection.send(Response.json(files))
    record(connection, all(not file.file.closed for file in request.files.values()))
    open_files.extend(file.file for file in request.files.values())


open_files = []


def closed(connection, request):
    connection.send(str([file.closed for file in open_files]))


def echo(connection, request):
    connection.send(Response.stream(iter(lambda: request.stream.read1(5000), b"")))


def noted(connection, source):
    try:
        yield from source
    finally:
        record(connection, "closed")


def stream(connection, request):
    parts = [b"x" * 100000] * int(request.query.get("count", "3"))
    connection.send(Response.stream(noted(connection, parts), content_type="text/plain"))


def slow(connection, request):
    def parts():
        yield "begun"
        while not os.path.exists("go-slow"):
            time.sleep(0.01)
        yield "ended"

    connection.send(Response.stream(noted(connection, parts())))


def broken(connection, request):
    def parts():
        yield "some"
        raise RuntimeError("broken on purpose")

    connection.send(Response.stream(parts()))


def events(connection, request):
    def source():
        yield "one\ntwo"
        yield Event("three", id=3)
        if "close" in request.query:
            Timer.add(0.05, connection.close, persistent=False)
        time.sleep(3600)

    connection.send(
        Response.events(
            noted(connection, source()), keep_alive=float(request.query.get("keep", "0"))
        )
    )


def file(connection, request):
    connection.send(Response.file("big"))


files = Static(".", prefix="/static/")


def static(connection, request):
    files(connection, request)


def heard(connection, data):
    connection.send(data.upper())


def left(connection):
    record(connection, "left")


def chat(connection, request):
    request.upgrade(on_message=heard, on_close=left)
    connection.send(f"welcome {connection.request.path} {connection.protocol}")


def plain(connection, request):
    request.upgrade()


def afterwards(connection, request):
    Timer.add(0.01, request.upgrade, persistent=False)


def bad(connection, request):
    raise ValueError("on purpose")


@talk.handler
def session(connection):
    for request in connection:
        if isinstance(request, str):
            connection.send(request[::-1])
        elif request.path == "/afterwards":
            Timer.add(0.01, request.upgrade, persistent=False)
        elif request.is_websocket:
            request.upgrade()
        elif request.path == "/stream":
            connection.send(Response.stream(["a", "b"]))
        elif request.path == "/last":
            connection.send(Response.stream(["a", "b"]))
            return
        else:
            connection.send(str(len(request.stream.read())))


hasty = Worker("http://127.0.0.1:0", name="hasty", close_timeout=0.3)


def slowly(pause):
    for number in range(4):
        yield str(number)
        time.sleep(pause)


@hasty.handler
def hurry(connection):
    while True:
        try:
            request = connection.recv(timeout=0.15)
        except TimeoutError:
            record(connection, "timeout")
            continue
        if request is None:
            return
        if request.path == "/elsewhere":
            outside(connection.send, Response.stream(["a", "b"]))
        elif request.path == "/own":
            connection.send(Response.stream(noted(connection, slowly(3600))))
            with gevent.Timeout(0.1, False):
                connection.recv()
            record(connection, "own", connection.status)
        elif request.path == "/unending":
            connection.send(Response.stream(noted(connection, slowly(3600))))
            Timer.add(0.05, connection.close, persistent=False)
        elif request.path == "/file":
            connection.send(Response.file("big"))
            Timer.add(0.05, connection.close, persistent=False)
        elif request.path == "/last":
            connection.send(Response.stream(slowly(0.2)))
            connection.close()
        else:
            connection.send(Response.stream(slowly(0.1)))
