"""Large bodies: decoding them leaves the process to others, JSON has a limit, and uploads have a
directory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import places
import pytest
from instance import Instance
from serving import Client, Served

APP = places.app("bodies")

SLICES = 9_000_000 // 65536

FORM = "application/x-www-form-urlencoded"
BOUNDARY = "b" * 60


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    one = Served(tmp_path_factory.mktemp("bodies") / "app", APP)
    (one.directory / "spool").mkdir()
    try:
        one.start()
        yield one
    finally:
        one.kill()


def post(
    app: Served, path: str, body: bytes, kind: str, name: str = "web", *fields: str
) -> tuple[int, dict[str, str], bytes]:
    head = [
        f"POST /{path} HTTP/1.1",
        "Host: a",
        f"Content-Length: {len(body)}",
        f"Content-Type: {kind}",
        *fields,
    ]
    with Client(app, name) as client:
        client.send("\r\n".join([*head, "", ""]))
        client.send(body)
        return client.answer()


def part(name: str, data: bytes, filename: str | None = None) -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + data + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


@pytest.mark.parametrize(
    ("path", "body", "kind", "length"),
    [
        ("form/a", b"a=" + b"%41" * 3_000_000, FORM, 3_000_000),
        ("form/a", b"a=" + b"+" * 9_000_000, FORM, 9_000_000),
        ("form/a", b"&".join(b"a=" + b"%C3%A9" * 1500 for _ in range(1000)), FORM, 1500),
        ("text", "é".encode() * 4_500_000, "text/plain", 4_500_000),
        ("text", b"\x81\x30\x81\x30" * 2_250_000, "text/plain; charset=gb18030", 2_250_000),
    ],
    ids=["one value", "blanks", "many values", "utf-8", "another charset"],
)
def test_others_have_their_turn_while_a_large_body_is_decoded(
    app: Served, path: str, body: bytes, kind: str, length: int
) -> None:
    status, _, answer = post(app, path, body, kind)
    told = json.loads(answer)
    assert (status, told["length"]) == (200, length)
    assert told["turns"] >= SLICES - 10


def test_others_have_their_turn_while_a_multipart_form_is_parsed(app: Served) -> None:
    body = part("file", b"x" * 8_500_000, "f") + part("a", b"y" * 500_000) + END
    _, _, answer = post(app, "form/a", body, f"multipart/form-data; boundary={BOUNDARY}")
    told = json.loads(answer)
    assert told["length"] == 500_000
    assert told["turns"] >= SLICES - 10


@pytest.mark.parametrize(
    ("name", "size", "status"),
    [
        ("web", 1 << 20, 200),
        ("web", (1 << 20) + 1, 413),
        ("whole", 2000, 200),
        ("whole", 2001, 413),
        ("small", 1024, 200),
        ("small", 1025, 413),
        ("small", 3000, 413),
    ],
)
def test_json_has_a_limit(app: Served, name: str, size: int, status: int) -> None:
    found, _, answer = post(app, "json", b'"' + b"x" * (size - 2) + b'"', "application/json", name)
    assert found == status
    if status == 413:
        limit = {"web": 1 << 20, "whole": 2000, "small": 1024}[name]
        assert f"JSON longer than {limit} bytes (max_json_size)".encode() in answer


def test_chunked_json_has_the_same_limit(app: Served) -> None:
    head = (
        "POST /json HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Type: "
        "application/json\r\n\r\n"
    )
    with Client(app, "small") as client:
        client.send(head + "1000\r\n" + '"' + "x" * 4094 + '"' + "\r\n0\r\n\r\n")
        status, _, answer = client.answer()
        assert (status, b"JSON longer than 1024 bytes" in answer) == (413, True)


def test_uploads_are_spooled_where_they_should_be(app: Served) -> None:
    body = part("f", b"x" * 100_000, "f") + END
    status, _, answer = post(app, "", body, f"multipart/form-data; boundary={BOUNDARY}", "small")
    spool = str(app.directory / "spool")
    assert (status, json.loads(answer)) == (200, {"dir": spool, "size": 100_000})


def test_the_command_line_says_where_uploads_go_and_how_much_json_there_may_be(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    one = Served(tmp_path / "app", APP)
    try:
        one.start("--upload-dir", str(tmp_path / "here"), "--max-json-size", "1500")
        assert post(one, "json", b'"' + b"x" * 1500 + b'"', "application/json", "whole")[0] == 413
        assert post(one, "json", b'"' + b"x" * 1200 + b'"', "application/json", "small")[0] == 200
        body = part("f", b"x" * 100_000, "f") + END
        answer = post(one, "", body, f"multipart/form-data; boundary={BOUNDARY}", "small")[2]
        assert json.loads(answer)["dir"] == str(tmp_path / "here")
    finally:
        one.kill()


@pytest.mark.parametrize("command", ["check", "start"])
def test_an_upload_directory_that_is_none_is_refused(tmp_path: Path, command: str) -> None:
    one = Instance(
        tmp_path / "app",
        "from gworker import Worker\nhandlers = Worker('http://127.0.0.1:0', name='w')\n",
    )
    ran = one.run(command, "app", "--upload-dir", "/dev/null/none")
    assert ran.returncode == 1
    assert "w: upload_dir /dev/null/none is no directory" in ran.stderr
