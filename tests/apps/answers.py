"""HTTP handlers that return their answers, that answer later, and that never do."""

import os
import time
from types import SimpleNamespace

import gevent

from gworker import Timer, Worker
from gworker.connection import unanswered
from gworker.http import BadRequest, Response

unanswered.SECONDS = float(os.environ.get("UNANSWERED_SECONDS", "30"))

web = Worker("http://127.0.0.1:0", name="web", stream_above=1000)
text = Worker("text://127.0.0.1:0", name="text")
one_by_one = Worker("http://127.0.0.1:0", name="one_by_one")
told = []
kept = []

RETURNED = {
    "str": "<p>text</p>",
    "bytes": b"octets",
    "response": Response("made", 201, {"X-Made": "yes"}),
    "dict": {"a": [1, None, "é"]},
    "list": [{"b": 2}],
    "empty": {},
    "int": 5,
    "tuple": ("body", 200),
    "object": SimpleNamespace(),
    "unserializable": {"x": SimpleNamespace()},
}


@web.on_message
def answer(connection, request):
    """What its path names."""
    name = request.path[1:]
    return RETURNED[name] if name in RETURNED else globals()[name](connection, request)


def stream(connection, request):
    return Response.stream(iter([b"one ", b"two"]))


def echo(connection, request):
    return request.body


def twice(connection, request):
    connection.send("first")
    return "second"


def twice_with_a_request_between(connection, request):
    """Returns something when the client, which has its answer, has asked for the next one."""
    _send_and_wait_for_the_next(connection)
    return "second"


def refused_with_a_request_between(connection, request):
    _send_and_wait_for_the_next(connection)
    raise BadRequest("a word about the first one")


def _send_and_wait_for_the_next(connection):
    connection.send("first")
    while not connection.recv_queue:
        time.sleep(0.01)


def sent(connection, request):
    return connection.send("sent, and True is returned")


def park(connection, request):
    """A long poll."""
    kept.append(connection)


def in_time(connection, request):
    """Answers from a timer, when the process has begun to retire."""
    if web.stopping:
        connection.send("from a timer")
    else:
        Timer.add(0.2, in_time, (connection, request), persistent=False)


def park_until_sent(connection, request):
    """Tells how the two ways of hearing that the client has gone look to a handler that answers
    later."""
    gevent.spawn(_watch, connection)


def _watch(connection):
    while connection.status == "established":
        time.sleep(0.01)
    told.append(f"send={connection.send('too late')} status={connection.status}")


def slow(connection, request):
    """Goes on until the client has finished sending, then answers."""
    while not connection.peer_closed:
        time.sleep(0.01)
    return f"peer_closed={connection.peer_closed}"


def release(connection, request):
    """Answers all that are parked."""
    results = [each.send("released") for each in kept]
    kept.clear()
    return results


def stories(connection, request):
    return told


@web.on_close
def closed(connection):
    told.append(f"closed {connection.remote_port}")


@text.on_message
def ignored(connection, line):
    """What other protocols return means nothing."""
    connection.send(f"sent {line}")
    return {"returned": line}


forgetful = Worker("http://127.0.0.1:0", name="forgetful")
unread = Worker("http://127.0.0.1:0", name="unread", stream_above=100)
patient = Worker("http://127.0.0.1:0", name="patient")
spawning = Worker("http://127.0.0.1:0", name="spawning")


@forgetful.on_message
def forget(connection, request):
    """Neither answers nor keeps its connection, but for what it leaves in its context."""
    connection.context.path = request.path


@unread.on_message
def forget_upload(connection, request):
    """Reads half of it."""
    request.stream.read(100)


@patient.on_message
def keep(connection, request):
    kept.append(connection)


@spawning.on_message
def spawn(connection, request):
    gevent.spawn(_answer_late, connection)


def _answer_late(connection):
    time.sleep(1.5)
    connection.send("late")


@one_by_one.handler
def straight(connection):
    """Answers the first request, keeps the second, and hears of the end while it waits for the
    next."""
    for number, _ in enumerate(connection):
        if number == 0:
            connection.send("first")
