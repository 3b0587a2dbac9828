"""A Worker of each kind; when the file `go` appears, every process forks a copy that sleeps."""

import glob
import os
import socketserver
import time

from gworker import Timer, Worker, connect

TLS = {"certfile": "server.pem", "keyfile": "server.key"}


class Stream(socketserver.StreamRequestHandler):
    """Legacy code that answers lines."""

    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)


class Packets(socketserver.DatagramRequestHandler):
    """Legacy code that answers datagrams."""

    def handle(self):
        self.wfile.write(self.rfile.read())


def repeat(connection, message):
    """Send it back."""
    connection.send(message if isinstance(message, str | bytes) else "page")


def serve(connection):
    """The same in a connection handler."""
    for message in connection:
        connection.send(message)


WORKERS = [
    Worker("text://127.0.0.1:0", name="text", on_message=repeat),
    Worker("tcp://127.0.0.1:0", name="own", reuse_port=True, on_message=repeat, max_send_buffer_size="100MiB"),
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
