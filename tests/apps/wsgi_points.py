"""An application for each point of PEP 3333, by path, and what has happened to it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent

Environ = dict[str, Any]

TEXT = [("Content-Type", "text/plain")]

told: list[str] = []


class Items:
    """An iterable that tells when it is closed."""

    def __init__(self, name: str, items: Any) -> None:
        self.name = name
        self.items = iter(items)

    def __iter__(self) -> Iterator[Any]:
        return self.items

    def close(self) -> None:
        told.append(f"{self.name} closed")


def fail() -> None:
    raise RuntimeError("planned")


def whole(environ: Environ, start: Any) -> Any:
    start("200 OK", TEXT)
    return [b"whole"]


def pair(environ: Environ, start: Any) -> Any:
    start("200 OK", TEXT)
    return (b"a", b"", b"b")


def reason(environ: Environ, start: Any) -> Any:
    start("299 Tr\xe8s bien", TEXT)
    return [b"x"]


def bare(environ: Environ, start: Any) -> Any:
    start("200", TEXT)
    return [b"x"]


def late(environ: Environ, start: Any) -> Any:
    """start_response is called at the first item."""

    def items() -> Iterator[bytes]:
        start("201 Created", TEXT)
        yield b""
        yield b"late"

    return items()


def never(environ: Environ, start: Any) -> Any:
    return [b"x"]


def never_in_items(environ: Environ, start: Any) -> Any:
    return iter([b"x"])


def twice(environ: Environ, start: Any) -> Any:
    start("200 OK", TEXT)
    start("200 OK", TEXT)
    return [b"x"]


def replaced(environ: Environ, start: Any) -> Any:
    start("200 OK", [("X-First", "1")])
    try:
        fail()
    except RuntimeError:
        start("503 Replaced", TEXT, sys.exc_info())
    return [b"replaced"]


def too_late(environ: Environ, start: Any) -> Any:
    def items() -> Iterator[bytes]:
        start("200 OK", TEXT)
        yield b"begun"
        try:
            fail()
        except RuntimeError:
            start("500 Error", TEXT, sys.exc_info())

    return Items("too_late", items())


def written(environ: Environ, start: Any) -> Any:
    write = start("200 OK", TEXT)
    write(b"a")
    write(b"")
    write(b"b")
    return [b"c"]


def written_alone(environ: Environ, start: Any) -> Any:
    start("200 OK", [*TEXT, ("Content-Length", "1")])(b"a")
    return []


def written_text(environ: Environ, start: Any) -> Any:
    start("200 OK", TEXT)("text")
    return []


def nothing(environ: Environ, start: Any) -> Any:
    start("200 OK", TEXT)
    return Items("nothing", [b"", b""])


def slowly(environ: Environ, start: Any) -> Any:
    def items() -> Iterator[bytes]:
        yield b"one"
        time.sleep(0.3)
        yield b"two"

    start("200 OK", TEXT)
    return items()


def long(environ: Environ, start: Any) -> Any:
    start("200 OK", [*TEXT, ("Content-Length", "3")])
    return Items("long", [b"ab", b"cd", b"ef"])


def long_list(environ: Environ, start: Any) -> Any:
    start("200 OK", [*TEXT, ("Content-Length", "3")])
    return [b"abcd"]


def short(environ: Environ, start: Any) -> Any:
    start("200 OK", [*TEXT, ("Content-Length", "9")])
    return Items("short", [b"ab"])


def short_list(environ: Environ, start: Any) -> Any:
    start("200 OK", [*TEXT, ("Content-Length", "9")])
    return [b"ab"]


def raises(environ: Environ, start: Any) -> Any:
    raise RuntimeError("secret of the application")


def raises_in_items(environ: Environ, start: Any) -> Any:
    def items() -> Iterator[bytes]:
        start("200 OK", TEXT)
        raise RuntimeError("secret of the application")
        yield b""

    return Items("raises_in_items", items())


def raises_after(environ: Environ, start: Any) -> Any:
    def items() -> Iterator[bytes]:
        yield b"begun"
        raise RuntimeError("planned")

    start("200 OK", TEXT)
    return Items("raises_after", items())


def leaves(environ: Environ, start: Any) -> Any:
    sys.exit(3)


def text(environ: Environ, start: Any) -> Any:
    start("200 OK", TEXT)
    return ["text"]


def text_in_items(environ: Environ, start: Any) -> Any:
    start("200 OK", TEXT)
    return iter(["text"])


def bad_status(environ: Environ, start: Any) -> Any:
    start("200 OK\r\nX-Injected: 1", TEXT)
    return [b"x"]


def bad_name(environ: Environ, start: Any) -> Any:
    start("200 OK", [("X\r\nX-Injected", "1")])
    return [b"x"]


def bad_value(environ: Environ, start: Any) -> Any:
    start("200 OK", [("X", "1\r\nX-Injected: 1")])
    return [b"x"]


def no_latin(environ: Environ, start: Any) -> Any:
    start("200 OK", [("X", "\u20ac")])
    return [b"x"]


def latin(environ: Environ, start: Any) -> Any:
    start("200 OK", [("X", "\xe9")])
    return [b"x"]


def changed(environ: Environ, start: Any) -> Any:
    fields = [("X", "1")]
    start("200 OK", fields)
    fields.append(("X-Late", "1"))
    return [b"x"]


def own_fields(environ: Environ, start: Any) -> Any:
    fields = [
        ("Date", "then"), ("Server", "mine"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"),
        ("Transfer-Encoding", "chunked"), ("Keep-Alive", "timeout=5"),
    ]  # fmt: skip
    start("200 OK", fields)
    return [b"x"]


def closing(environ: Environ, start: Any) -> Any:
    start("200 OK", [("Connection", "close")])
    return [b"x"]


def status_204(environ: Environ, start: Any) -> Any:
    start("204 No Content", [("Content-Length", "3")])
    return Items("status_204", [b"abc"])


def status_304(environ: Environ, start: Any) -> Any:
    start("304 Not Modified", [("Content-Length", "3")])
    return [b"abc"]


def with_length(environ: Environ, start: Any) -> Any:
    start("200 OK", [*TEXT, ("Content-Length", "5")])
    return Items("with_length", [b"ab", b"cde"])


def pieces(environ: Environ, start: Any) -> Any:
    start("200 OK", TEXT)
    return Items("pieces", [b"ab", b"cde"])


def hints(environ: Environ, start: Any) -> Any:
    environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
    start("200 OK", TEXT)
    return [b"x"]


def bad_hints(environ: Environ, start: Any) -> Any:
    environ["wsgi.early_hints"]([("Link", "a\r\nX-Injected: 1")])
    start("200 OK", TEXT)
    return [b"x"]


def late_hints(environ: Environ, start: Any) -> Any:
    def items() -> Iterator[bytes]:
        yield b"begun"
        environ["wsgi.early_hints"]([("Link", "</a.css>")])
        yield b", ended"

    start("200 OK", TEXT)
    return items()


def silent(environ: Environ, start: Any) -> Any:
    def items() -> Iterator[bytes]:
        try:
            if environ["QUERY_STRING"]:
                yield b"begun"
            gevent.sleep(60)
            yield b"never"
        finally:
            told.append("silent interrupted")

    start("200 OK", TEXT)
    return Items("silent", items())


def waits(environ: Environ, start: Any) -> Any:
    """Until the client has left, or some seconds have passed."""
    end = time.monotonic() + 20
    told.append(f"waits {environ['gworker.client_disconnected']()}")
    while not environ["gworker.client_disconnected"]() and time.monotonic() < end:
        time.sleep(0.01)
    told.append(f"waits {environ['gworker.client_disconnected']()}")
    start("200 OK", TEXT)
    return Items("waits", [b"x"])


def much(environ: Environ, start: Any) -> Any:
    def items() -> Iterator[bytes]:
        for _ in range(1000):
            yield b"a" * 65536
        told.append("much is all taken")

    start("200 OK", TEXT)
    return Items("much", items())


def endless(environ: Environ, start: Any) -> Any:
    def items() -> Iterator[bytes]:
        while True:
            yield b"a" * 1000

    start("200 OK", TEXT)
    return Items("endless", items())


def file_of(size: int) -> Any:
    file = tempfile.TemporaryFile()
    file.write(b"0123456789" * (size // 10))
    file.seek(0)
    return file


def wrapped(environ: Environ, file: Any) -> Any:
    close = file.close
    file = environ["wsgi.file_wrapper"](file, 4096)

    def tell() -> None:
        told.append("file closed")
        close()

    file.close = tell
    return file


def file(environ: Environ, start: Any) -> Any:
    start("200 OK", TEXT)
    return wrapped(environ, file_of(3_000_000))


def large_file(environ: Environ, start: Any) -> Any:
    """2 GiB without a block on the disk."""
    source = tempfile.TemporaryFile()
    source.truncate(2 << 30)
    start("200 OK", TEXT)
    return wrapped(environ, source)


def file_from(environ: Environ, start: Any) -> Any:
    """From the position where it stands, and less than there is."""
    source = file_of(100)
    source.read(3)
    start("200 OK", [*TEXT, ("Content-Length", "4")])
    return wrapped(environ, source)


def file_cut(environ: Environ, start: Any) -> Any:
    start("200 OK", [*TEXT, ("Content-Length", "1000")])
    return wrapped(environ, file_of(100))


def file_no_file(environ: Environ, start: Any) -> Any:
    start("200 OK", TEXT)
    return wrapped(environ, io.BytesIO(b"memory"))


def file_pipe(environ: Environ, start: Any) -> Any:
    start("200 OK", TEXT)
    return wrapped(environ, subprocess.Popen(["printf", "pipe"], stdout=subprocess.PIPE).stdout)


def file_iterated(environ: Environ, start: Any) -> Any:
    """As a middleware that looks at each piece."""
    start("200 OK", TEXT)
    return (piece.upper() for piece in wrapped(environ, io.BytesIO(b"memory")))


def body(environ: Environ, start: Any) -> Any:
    content = environ["wsgi.input"].read()
    told.append(f"body of {len(content)}")
    start("200 OK", TEXT)
    return [str(len(content)).encode()]


def broken(environ: Environ, start: Any) -> Any:
    told.append("broken begins")
    try:
        content = environ["wsgi.input"].read()
    except OSError as error:
        told.append(f"broken {isinstance(error, ConnectionError)}")
        raise
    told.append(f"broken got {len(content)}")
    start("200 OK", TEXT)
    return [b"x"]


def first(environ: Environ, start: Any) -> Any:
    got = environ["wsgi.input"].read(3)
    start("200 OK", TEXT)
    return [got]


def unread(environ: Environ, start: Any) -> Any:
    start("200 OK", TEXT)
    return [b"x"]


def refuse(environ: Environ, start: Any) -> Any:
    start("413 Too Large", TEXT)
    return [b"no"]


def shown(environ: Environ, start: Any) -> Any:
    found = {key: value for key, value in environ.items() if isinstance(value, str | bool | tuple)}
    found["type"] = type(environ).__name__
    found["poison"] = environ.get("poison")
    environ["poison"] = "poison"
    environ["wsgi.errors"].write("a line for the log\n")
    start("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(found).encode()]


def story(environ: Environ, start: Any) -> Any:
    found, told[:] = list(told), []
    start("200 OK", TEXT)
    return [json.dumps(found).encode()]


def application(environ: Environ, start_response: Any) -> Any:
    name = environ["PATH_INFO"].strip("/").replace("/", "_") or "whole"
    point: Callable[[Environ, Any], Any] = globals()[name]
    return point(environ, start_response)
