"""The services that are measured, written as any user would write them. The runner starts one at a
time.

BENCH_PORT=9601 gworker benchmarks/apps.py:tcp
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from gworker import Timer, Worker
from gworker.http import Request, Response

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers"))
import wsgi as applications

MUCH = b"x" * 8_000_000
HOLES = os.environ.get("BENCH_HOLES", "/tmp/bench.holes")
ADDRESS = f"127.0.0.1:{os.environ.get('BENCH_PORT', '9601')}"
TLS = {
    "certfile": os.environ.get("BENCH_CERTIFICATE", "cert.pem"),
    "keyfile": os.environ.get("BENCH_KEY", "key.pem"),
}

tcp = Worker(f"tcp://{ADDRESS}", name="tcp")
text = Worker(f"text://{ADDRESS}", name="text")
frame = Worker(f"frame://{ADDRESS}", name="frame")
ws = Worker(f"websocket://{ADDRESS}", name="ws")
tls = Worker(f"tls://{ADDRESS}", name="tls", tls=TLS)
hello = Worker(f"http://{ADDRESS}", name="hello")
https = Worker(f"https://{ADDRESS}", name="https", tls=TLS)
read = Worker(f"http://{ADDRESS}", name="read")
wsgi = Worker(f"http://{ADDRESS}", name="wsgi", wsgi=applications.hello)
respond = Worker(f"http://{ADDRESS}", name="respond")
document = Worker(f"http://{ADDRESS}", name="document")
upload = Worker(f"http://{ADDRESS}", name="upload")
sleepy = Worker(f"http://{ADDRESS}", name="sleepy")
slow = Worker(f"http://{ADDRESS}", name="slow", backlog=8192, header_timeout=10, send_timeout=4)
moving = Worker(f"websocket://{ADDRESS}", name="moving", handover=True, backlog=4096)
unix = Worker(f"unix://{os.environ.get('BENCH_SOCKET', '/tmp/bench.sock')}", name="unix")
both = [tcp, unix]
crowd = Worker(f"websocket://{ADDRESS}", name="crowd", backlog=4096)
sender = Worker(f"http://{ADDRESS}", name="sender")
sleeper = Worker(f"tcp://{ADDRESS}", name="sleeper")


@tcp.on_message
@tls.on_message
@text.on_message
@frame.on_message
@ws.on_message
@moving.on_message
@unix.on_message
def echo(connection: Any, data: str | bytes) -> None:
    connection.send(data)


@hello.on_message
@https.on_message
def say_hello(connection: Any, request: Request) -> None:
    connection.send("Hello, world")


@read.on_message
def answer_what_was_asked(connection: Any, request: Request) -> None:
    page = request.query.get("page", "")
    language = request.headers.get("Accept-Language", "")
    session = request.cookies.get("session", "")
    connection.send(f"{request.path} {page} {language} {session}")


@respond.on_message
def say_hello_with_fields(connection: Any, request: Request) -> None:
    page = request.query.get("page", "")
    fields = {"Content-Type": "text/plain", "Cache-Control": "no-store", "X-Page": page}
    connection.send(Response("Hello, world", headers=fields))


@document.on_message
def return_document(connection: Any, request: Request) -> None:
    connection.send(Response.json(request.json()))


@upload.on_message
def count_bytes(connection: Any, request: Request) -> None:
    connection.send(str(len(request.body)))


@sleepy.on_message
def sleep_now_and_then(connection: Any, request: Request) -> None:
    if request.path.endswith("00"):
        time.sleep(0.05)
    connection.send("Hello, world")


@slow.on_message
def hello_or_much(connection: Any, request: Request) -> None:
    connection.send("Hello, world" if request.path == "/" else MUCH)


@sender.on_message
def send_file(connection: Any, request: Request) -> None:
    connection.send(Response.file(HOLES))


@sleeper.on_message
def sleep_and_echo(connection: Any, data: bytes) -> None:
    time.sleep(0.5)
    connection.send(data)


@crowd.on_worker_start
def start_broadcasts(worker: Worker) -> None:
    Timer.add(0.2, broadcast, args=(int(os.environ.get("BENCH_CROWD", "1000")),))


def broadcast(people: int) -> None:
    """When all are there: to all clients, a few times, and write down how long each took, in ms."""
    times = Path(os.environ["BENCH_SOCKET"]).with_name("broadcasts")
    if len(crowd.connections) < people or (times.exists() and len(times.read_text().split()) >= 5):
        return
    began = time.perf_counter()
    taken = crowd.broadcast("x" * 100)
    milliseconds = (time.perf_counter() - began) * 1e3
    if taken == people:
        with times.open("a") as file:
            file.write(f"{milliseconds:.3f}\n")
