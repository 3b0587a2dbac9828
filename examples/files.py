"""The current directory over HTTP: the standard library's file server, in four processes.

    gworker examples/files.py

Then open http://127.0.0.1:8000. Any socketserver class can be the handler of a Worker.
"""

import os
from http.server import SimpleHTTPRequestHandler

from gworker import Worker


class Files(SimpleHTTPRequestHandler):
    """As it is, but several requests may use one connection."""

    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that a connection may be silent


files = Worker(
    os.environ.get("LISTEN", "tcp://127.0.0.1:8000"), name="files", count=4, handler=Files
)
