"""A handler of the standard library, over TLS."""

import socketserver

from gworker import Worker


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)


worker = Worker("tls://127.0.0.1:0", name="tls", handler=Echo, tls={"certfile": "CERTIFICATE"})
