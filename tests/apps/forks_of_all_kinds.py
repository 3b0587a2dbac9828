"""A Worker of each kind; when the file `go` appears, every process forks a copy that sleeps."""

import glob
import os
import socketserver
import sys
import time

from gworker import Response, Timer, Worker, connect

TLS = {"certfile": "server.pem", "keyfile": "server.key"}


class Stream(socketserver.StreamRequestHandler):
    """Legacy code that answers lines."""

    def handle(self):
        for line in self.rfile:
            answer = ended(line.decode()) if b"fork" in line else line.decode()
            if answer is None:
                return
            self.wfile.write(answer.encode())


class Packets(socketserver.DatagramRequestHandler):
    """Legacy code that answers datagrams."""

    def handle(self):
        packet = self.rfile.read()
        answer = ended(packet.decode()) if b"fork" in packet else packet.decode()
        self.wfile.write((answer or "").encode())


def ended(how):
    """What a copy ends with that leaves its handler by returning, or by sys.exit; None in the
    copy."""
    pid = os.fork()
    if pid == 0:
        if "exit" in how:
            sys.exit(5)
        return None
    return f"ended {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])};"


def pieces(how):
    """An answer in pieces, from within which it forks."""
    yield "begins "
    if (text := ended(how)) is not None:
        yield text


def repeat(connection, message):
    """Send it back, or have a copy end."""
    if not isinstance(message, str | bytes):
        if message.path.startswith("/pieces"):
            connection.send(Response.stream(pieces(message.path)))
            return
        message = message.path if message.path != "/" else "page"
    text = message if isinstance(message, str) else message.decode()
    answer = ended(text) if "fork" in text else message
    if answer is not None:
        connection.send(answer)


def serve(connection):
    """The same in a connection handler."""
    for message in connection:
        repeat(connection, message)


WORKERS = [
    Worker("text://127.0.0.1:0", name="text", on_message=repeat),
    Worker(
        "tcp://127.0.0.1:0",
        name="own",
        reuse_port=True,
        on_message=repeat,
        max_send_buffer_size="100MiB",
    ),
    Worker("websocket://127.0.0.1:0", name="sock", on_message=repeat),
    Worker("http://127.0.0.1:0", name="web", on_message=repeat),
    Worker("tls://127.0.0.1:0", name="tls", tls=TLS, on_message=repeat),
    Worker("text://127.0.0.1:0", name="session", handler=serve),
    Worker("text://127.0.0.1:0", name="proxied", proxy_protocol=True, on_message=repeat),
    Worker("tcp://127.0.0.1:0", name="legacy", handler=Stream),
    Worker("tls://127.0.0.1:0", name="secret", handler=Stream, tls=TLS),
    Worker("udp://127.0.0.1:0", name="udp", on_message=repeat),
    Worker("udp://127.0.0.1:0", name="packets", handler=Packets),
    Worker(f"unix://{os.getcwd()}/sock", name="unix", on_message=repeat),
]


def start(worker):
    """Dial oneself too, and listen once more."""
    if worker.name == "text":
        worker.listen("text://127.0.0.1:0")
        worker.listen(f"unix://{os.getcwd()}/own")
    Timer.add(0.05, look, (worker,))


def look(worker):
    """Fork, once."""
    if worker.name == "text" and os.path.exists("dial"):
        os.remove("dial")
        with open("port") as file:
            connect(f"text://127.0.0.1:{file.read()}", on_message=repeat)
    if os.path.exists("go") and not glob.glob(f"copy-of-{worker.name}-*"):
        pid = os.fork()
        if pid == 0:
            time.sleep(0.1)
            with open(f"copy-of-{worker.name}-{os.getpid()}", "w") as file:
                file.write(f"{len(worker.connections)} {worker.id}")
            time.sleep(100)
            os._exit(0)
        while not os.path.exists(f"copy-of-{worker.name}-{pid}"):
            time.sleep(0.01)


for each in WORKERS:
    each.on_worker_start = start
