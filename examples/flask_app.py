"""A Flask application, as Flask's documentation has it: pages, JSON, an upload and a stream.

    gworker examples/flask_app.py -w 4          # http://127.0.0.1:8000
    curl -F file=@README.md http://127.0.0.1:8000/upload
    curl -N http://127.0.0.1:8000/countdown

Nothing in it is about gworker. Needed: pip install Flask
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, request

app = Flask(__name__)


@app.get("/")
def index() -> str:
    return "<h1>Hello</h1>\n"


@app.get("/process")
def process() -> dict[str, Any]:
    return {"pid": os.getpid(), "peer": request.remote_addr}


@app.post("/upload")
def upload() -> dict[str, Any]:
    file = request.files["file"]
    return {"name": file.filename, "size": len(file.read())}


@app.get("/countdown")
def countdown() -> Response:
    count = int(request.args.get("from", 5))

    def lines() -> Iterator[str]:
        for number in range(count, 0, -1):
            yield f"{number}\n"
            time.sleep(0.1)  # blocks this client alone

    return Response(lines(), mimetype="text/plain")
