"""Servers of every scheme in one process, and a Worker that dials what it is told to."""

import json
import os
import time

import gevent.socket
from recording import record

from gworker import Worker, connect

servers = Worker(
    "wss://127.0.0.1:0", name="servers", tls={"certfile": os.environ["PEM"] + "/server.pem"}
)
handlers = [servers]
schemes = ["text", "frame", "tcp", "ws", "udp", "wss", "tls"]


@servers.on_worker_start
def listen(worker):
    # One process serves them all, and tells where.
    urls = {scheme: worker.listen(f"{scheme}://127.0.0.1:0") for scheme in schemes}
    urls["unix"] = worker.listen(f"unix://{os.getcwd()}/{os.getpid()}.sock")
    record("servers", json.dumps(urls))


@servers.on_message
def echo(connection, message):
    if message in ("close", b"close"):
        connection.close()
    elif message in ("fields", b"fields"):
        connection.send(
            json.dumps([[name, value] for name, value in connection.request.headers.items()])
        )
    else:
        connection.send(message)


dialler = Worker("text://127.0.0.1:0", name="dialler")
handlers.append(dialler)
dialled = {}  # by the id of the client that has ordered it, then by name
names = {}
real = gevent.socket.getaddrinfo


def resolve(host, port, family=0, type=0, *rest):
    if host not in names:
        return real(host, port, family, type, *rest)
    return [(gevent.socket.AF_INET, type, 0, "", tuple(address)) for address in names[host]]


gevent.socket.getaddrinfo = resolve


@dialler.on_message
def obey(owner, line):
    order = json.loads(line)
    result = ORDERS[order.pop("do")](owner, **order)
    if result is not None:
        owner.send(json.dumps(["result", result]))


def dial(owner, name, url, send=(), again=None, **options):
    def tell(*words):
        owner.send(json.dumps([name, *words]))

    def closed(connection):
        tell("close")
        if again is not None:
            connection.reconnect(**again)

    if "source_address" in options:
        options["source_address"] = tuple(options["source_address"])
    connection = connect(
        url,
        on_connect=lambda connection: tell("open"),
        on_message=lambda connection, message: tell(
            "message", message if isinstance(message, str) else list(message)
        ),
        on_close=closed,
        on_error=lambda connection, code, message: tell("error", int(code), message),
        **options,
    )
    dialled.setdefault(owner.id, {})[name] = connection
    for message in send:
        connection.send(message)


def refusal(owner, **arguments):
    try:
        connect(**arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def ask(owner, name, attribute, arguments=None):
    value = getattr(dialled[owner.id][name], attribute)
    return value(*arguments) if arguments is not None else value


ORDERS = {
    "dial": dial,
    "refusal": refusal,
    "ask": ask,
    "call": lambda owner, name, method, **arguments: (
        getattr(dialled[owner.id][name], method)(**arguments) and None
    ),
    "names": lambda owner, **given: names.update(given),
    "mine": lambda owner: len(dialler.connections),
}

consumer = Worker(name="consumer")
handlers.append(consumer)


@consumer.on_worker_start
def start(worker):
    worker.upstream = connect(os.environ["UPSTREAM"])
    worker.upstream.on_message = lambda connection, line: time.sleep(0.05)
    worker.upstream.send(f"start {os.getpid()}")


@consumer.on_worker_stop
def stop(worker):
    worker.upstream.send(f"stop {os.getpid()}")


@dialler.on_close
def forget(owner):
    # Its own alone: the next client may have ordered some before this one's end was seen.
    for connection in dialled.pop(owner.id, {}).values():
        connection.on_close = None
        connection.destroy()
