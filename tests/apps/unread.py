"""Messages to clients that read nothing, small enough to wait in the kernel alone."""

import os
import socketserver

from gworker import Worker

SECONDS = 1


def send(connection, size):
    """Send so many bytes, in pieces of a message each."""
    for _ in range(int(size) // 1000):
        connection.send("x" * 999)


def say_goodbye(connection, message):
    connection.send("x" * 200_000)
    connection.close()


class Owner(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"x" * 100_000)
        self.rfile.read()


def answer(connection, request):
    connection.close("x" * int(request.query.get("size", "100000")))


SOCKET = "text://" + os.path.abspath("unread.sock")

text = Worker("text://127.0.0.1:0", name="text", on_message=send, send_timeout=SECONDS)
free = Worker("text://127.0.0.1:0", name="free", on_message=send, kernel_send_buffer=0)
large = Worker("text://127.0.0.1:0", name="large", on_message=send, kernel_send_buffer="1M")
default = Worker("text://127.0.0.1:0", name="default", on_message=send, send_timeout=8 * SECONDS)
unix = Worker(SOCKET, transport="unix", name="unix", on_message=send, kernel_send_buffer=32768)
owned = Worker("tcp://127.0.0.1:0", name="owned", handler=Owner, send_timeout=SECONDS)
goodbye = Worker("ws://127.0.0.1:0", name="goodbye", on_message=say_goodbye, close_timeout=SECONDS)
web = Worker("http://127.0.0.1:0", name="web", on_message=answer, send_timeout=SECONDS)

handlers = [text, free, large, default, unix, owned, goodbye, web]
