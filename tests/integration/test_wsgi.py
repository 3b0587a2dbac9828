"""WSGI applications, by real clients."""

from __future__ import annotations

from collections.abc import Iterator

import places
import pytest
from serving import Client, Served, serve

GET = "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def flask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    source = places.app("wsgi_frameworks")
    with serve(tmp_path_factory, source, "--bind", "http://127.0.0.1:0") as one:
        yield one


def test_flask_by_its_name_alone(flask: Served) -> None:
    with Client(flask, "app") as client:
        status, fields, body = client.http(GET.format(""))
        assert (status, body) == (200, b"hello")
        assert fields["content-length"] == "5"
        assert client.http(GET.format("nothing"))[0] == 404
        client.send("POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send("3\r\nabc\r\n0\r\n\r\n")
        assert client.answer()[2].strip() == b'{"size":3}'
