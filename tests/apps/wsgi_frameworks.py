"""Applications as frameworks and middlewares make them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import bottle
import falcon
import flask
from pyramid.config import Configurator
from pyramid.response import Response
from whitenoise import WhiteNoise

from gworker import Worker

here = Path(__file__).parent
static = here / "static"

app = flask.Flask(__name__)


@app.get("/")
def hello() -> str:
    return "hello"


@app.post("/size")
def size() -> dict[str, Any]:
    return {"size": len(flask.request.get_data())}


@app.get("/stream")
def stream() -> flask.Response:
    def lines() -> Iterator[str]:
        yield "one\n"
        time.sleep(0.1)
        yield "two\n"

    return flask.Response(lines())


@app.get("/file")
def file() -> flask.Response:
    return flask.send_file(here / "app.py")


of_bottle = bottle.Bottle()


@of_bottle.get("/")
def hello_bottle() -> str:
    return "hello"


@of_bottle.post("/size")
def size_bottle() -> dict[str, Any]:
    return {"size": len(bottle.request.body.read())}


@of_bottle.get("/stream")
def stream_bottle() -> Iterator[str]:
    yield "one\n"
    time.sleep(0.1)
    yield "two\n"


@of_bottle.get("/file")
def file_bottle() -> bottle.HTTPResponse:
    return bottle.static_file("app.py", root=str(here))


class Hello:
    def on_get(self, _request: Any, response: Any) -> None:
        response.text = "hello"


class Size:
    def on_post(self, request: Any, response: Any) -> None:
        response.media = {"size": len(request.bounded_stream.read())}


class Stream:
    def on_get(self, _request: Any, response: Any) -> None:
        response.stream = iter([b"one\n", b"two\n"])


class File:
    def on_get(self, _request: Any, response: Any) -> None:
        response.stream = (here / "app.py").open("rb")
        response.content_length = (here / "app.py").stat().st_size


of_falcon = falcon.App()
of_falcon.add_route("/", Hello())
of_falcon.add_route("/size", Size())
of_falcon.add_route("/stream", Stream())
of_falcon.add_route("/file", File())


def of_pyramid() -> Any:
    from pyramid.response import FileResponse

    answers = {
        "": lambda request: Response("hello"),
        "size": lambda request: Response(json_body={"size": len(request.body)}),
        "stream": lambda request: Response(app_iter=iter([b"one\n", b"two\n"])),
        "file": lambda request: FileResponse(here / "app.py", request),
    }
    with Configurator() as config:
        for name, answer in answers.items():
            config.add_route(name or "index", f"/{name}")
            config.add_view(answer, route_name=name or "index")
        return config.make_wsgi_app()


def by_the_letter(environ: dict[str, Any], start_response: Any) -> Any:
    """What PEP 3333 allows and no more, as its validator wants it."""
    path = environ["PATH_INFO"]
    kind = [("Content-Type", "text/plain")]
    environ["wsgi.errors"].writelines(["one line\n"])
    if path == "/size":
        got = 0
        while piece := environ["wsgi.input"].read(1000):
            got += len(piece)
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b'{"size": %d}' % got]
    if path == "/stream":
        write = start_response("200 OK", kind)
        write(b"one\n")
        return iter([b"two\n"])
    if path == "/file":
        start_response("200 OK", kind)
        return environ["wsgi.file_wrapper"]((here / "app.py").open("rb"))
    start_response("200 OK" if path in ("", "/") else "404 Not Found", kind)
    return [b"hello"]


static.mkdir(exist_ok=True)
if not (static / "app.py").exists():
    (static / f"{os.getpid()}").write_bytes((here / "app.py").read_bytes())
    (static / f"{os.getpid()}").rename(static / "app.py")

handlers = [
    Worker("http://127.0.0.1:0", name="flask", wsgi=app),
    Worker("http://127.0.0.1:0", name="validated", wsgi=validator(by_the_letter)),
    Worker("http://127.0.0.1:0", name="bottle", wsgi=of_bottle),
    Worker("http://127.0.0.1:0", name="falcon", wsgi=of_falcon),
    Worker("http://127.0.0.1:0", name="pyramid", wsgi=of_pyramid()),
    Worker("http://127.0.0.1:0", name="whitenoise", wsgi=WhiteNoise(app, root=str(static))),
]
