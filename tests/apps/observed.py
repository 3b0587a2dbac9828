"""Observers that write down what they are told, and some that fail."""

import contextvars
import time

from recording import record

from gworker import Worker
from gworker.http import Response

web = Worker("http://127.0.0.1:0", name="web", handler_timeout=0.5)
ws = Worker("websocket://127.0.0.1:0", name="ws")
loop = Worker("http://127.0.0.1:0", name="loop")
wsgi = Worker("http://127.0.0.1:0", name="wsgi")
plain = Worker("text://127.0.0.1:0", name="plain")

trace = contextvars.ContextVar("trace", default="none")


class Calls:
    """An observer of all Workers."""

    def before_callback(self, call):
        record(call.connection or "process", "before", call.name)
        trace.set(f"in {call.name}")
        call.mine = "kept"

    def after_callback(self, call):
        assert call.mine == "kept"
        assert 0 <= call.seconds < 5
        record(call.connection or "process", "after", call.name, type(call.error).__name__)


class Requests:
    """An observer of one Worker."""

    def before_request(self, exchange):
        record(exchange.connection, "begin", exchange.request.path)

    def after_request(self, exchange):
        time.sleep(0.01)  # it may wait
        assert exchange.seconds > 0
        record(
            exchange.connection, "end", exchange.request.path, exchange.status,
            exchange.bytes_sent, *(["aborted"] * exchange.aborted),
        )  # fmt: skip


class Failing:
    """Whose every method fails."""

    def fail(self, _):
        raise SystemExit("an observer that fails")

    before_callback = after_callback = before_request = after_request = fail


Worker.observe(Calls())
web.observe(Failing())
for worker in (web, loop, wsgi):
    worker.observe(Requests())


@web.on_worker_start
def start(worker):
    worker.observe(Late())


class Late:
    """One that is there from the start of the process on."""

    def before_request(self, exchange):
        record(exchange.connection, "late")


@web.on_message
def answer(connection, request):
    if request.path == "/boom":
        raise ValueError("on purpose")
    if request.path == "/slow":
        time.sleep(30)
    if request.path == "/trace":
        return trace.get()
    if request.path == "/stream":
        return Response.stream(iter([b"one", b"two"]))
    if request.path == "/leave":
        time.sleep(0.2)
    return "x" * 10


@ws.on_message
@plain.on_message
def say(connection, data):
    connection.send(data)


@ws.on_websocket_connect
def admit(connection, request):
    pass


@ws.on_close
def gone(connection):
    raise ValueError("on purpose")


@loop.handler
def serve(connection):
    for request in connection:
        connection.send(request.path)


def application(environ, start_response):
    start_response("404 Not Found", [])
    return [b"no"]


wsgi.wsgi = application
