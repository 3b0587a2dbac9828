"""The services over HTTP as WSGI applications, with what the standard library offers.

bjoern    python peers/wsgi.py hello PORT
granian   granian --interface wsgi wsgi:hello
gunicorn  gunicorn -k gevent wsgi:hello
"""

import json
import sys
import time
from collections.abc import Callable, Iterable
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

HTML = "text/html; charset=utf-8"


def answer(
    start_response: StartResponse,
    body: bytes,
    content_type: str = HTML,
    fields: Iterable[tuple[str, str]] = (),
) -> list[bytes]:
    head = [("Content-Type", content_type), ("Content-Length", str(len(body))), *fields]
    start_response("200 OK", head)
    return [body]


def page_of(environ: Environ) -> str:
    return parse_qs(environ["QUERY_STRING"]).get("page", [""])[0]


def hello(environ: Environ, start_response: StartResponse) -> list[bytes]:
    return answer(start_response, b"Hello, world")


https = hello  # over TLS
wsgi = hello  # the row of servers of such applications


def read(environ: Environ, start_response: StartResponse) -> list[bytes]:
    session = SimpleCookie(environ.get("HTTP_COOKIE", "")).get("session")
    language = environ.get("HTTP_ACCEPT_LANGUAGE", "")
    found = (environ["PATH_INFO"], page_of(environ), language, session.value if session else "")
    return answer(start_response, " ".join(found).encode())


def respond(environ: Environ, start_response: StartResponse) -> list[bytes]:
    fields = [("Cache-Control", "no-store"), ("X-Page", page_of(environ))]
    return answer(start_response, b"Hello, world", "text/plain", fields)


def document(environ: Environ, start_response: StartResponse) -> list[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return answer(start_response, json.dumps(json.loads(body or b"0")).encode(), "application/json")


def upload(environ: Environ, start_response: StartResponse) -> list[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return answer(start_response, b"%d" % len(body))


def sleepy(environ: Environ, start_response: StartResponse) -> list[bytes]:
    if environ["PATH_INFO"].endswith("00"):
        time.sleep(0.05)
    return answer(start_response, b"Hello, world")


if __name__ == "__main__":
    import bjoern

    bjoern.run(globals()[sys.argv[1]], "127.0.0.1", int(sys.argv[2]))
