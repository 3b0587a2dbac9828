"""Handlers of the standard library."""

import socketserver
import time
from http.server import SimpleHTTPRequestHandler

from gworker import Worker


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            word = line.strip().decode()
            if word == "who":
                self.wfile.write(f"{self.client_address} {self.server.server_address}\n".encode())
            elif word == "sleep":
                time.sleep(0.5)
                self.wfile.write(b"slept\n")
            elif word == "raise":
                raise ZeroDivisionError("in Echo")
            elif word == "backend":
                raise ConnectionRefusedError("the backend is down")
            elif word == "close":
                self.request.close()
                return
            elif word == "big":
                self.wfile.write(b"x" * 5_000_000 + b"\n")
            else:
                self.wfile.write(line.upper())


class Reverse(socketserver.DatagramRequestHandler):
    def handle(self):
        line = self.rfile.read()
        if line == b"raise":
            raise ZeroDivisionError("in Reverse")
        if line == b"sleep":
            time.sleep(0.5)
        self.wfile.write(line[::-1])


class Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5


handlers = [
    Worker("tcp://127.0.0.1:0", name="echo", handler=Echo),
    Worker("udp://127.0.0.1:0", name="reverse", handler=Reverse),
    Worker("tcp://127.0.0.1:0", name="files", count=4, handler=Quiet),
]
