"""Applications as frameworks make them."""

from __future__ import annotations

from typing import Any

from flask import Flask, request

app = Flask(__name__)


@app.get("/")
def hello() -> str:
    return "hello"


@app.post("/upload")
def upload() -> dict[str, Any]:
    return {"size": len(request.get_data())}
