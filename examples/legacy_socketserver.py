"""Code for the standard library's socketserver, unchanged: one greenlet per connection, many
processes.

    gworker examples/legacy_socketserver.py:Upper --bind tcp://127.0.0.1:2006 -w 4

Without gworker: `python examples/legacy_socketserver.py`. Try either with `nc 127.0.0.1 2006`.
"""

import socketserver


class Upper(socketserver.StreamRequestHandler):
    """Answers each line in capitals."""

    def handle(self) -> None:
        """Blocking reads and writes on files over the socket, as it was always written."""
        for line in self.rfile:
            self.wfile.write(line.upper())


if __name__ == "__main__":
    with socketserver.ThreadingTCPServer(("127.0.0.1", 2006), Upper) as server:
        server.serve_forever()
