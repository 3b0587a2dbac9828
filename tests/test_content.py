# a case, a line
"""Files, ranges and conditions; directories of files; forms; events; cookies: without any
server."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gworker.http import BadRequest, Event, Request, Response, Static, UploadedFile, forms
from gworker.http.date import http_date, parse_date

TEXT = b"0123456789" * 10


def request(line: str = "GET / HTTP/1.1", *fields: str, body: bytes = b"") -> Request:
    return Request("\r\n".join([line, "Host: a", *fields, "", ""]).encode("latin-1"), body)


# ---- files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "some.txt"
    path.write_bytes(TEXT)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    return path


DATE = "Sun, 09 Sep 2001 01:46:40 GMT"
LATER = "Sun, 09 Sep 2001 01:46:41 GMT"
EARLIER = "Sun, 09 Sep 2001 01:46:39 GMT"


def served(path: Path, *fields: str, method: str = "GET") -> tuple[int, bytes, Response]:
    """Status, content and response for a request with these fields; {tag} stands for the file's
    ETag."""
    response = Response.file(path)
    tag = response.headers["ETag"]
    found = response.resolve(
        request(f"{method} / HTTP/1.1", *(field.replace("{tag}", tag) for field in fields))
    )
    content = b"".join(found.parts()) if hasattr(found, "parts") else b""
    return found.status, content, found


def test_a_whole_file(path: Path) -> None:
    status, content, response = served(path)
    assert (status, content, response.length) == (200, TEXT, 100)
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["Last-Modified"] == DATE
    assert response.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("field", "content", "where"),
    [
        ("bytes=0-9", TEXT[:10], "0-9/100"),
        ("bytes=90-", TEXT[90:], "90-99/100"),
        ("bytes=-5", TEXT[-5:], "95-99/100"),
        ("bytes=-500", TEXT, "0-99/100"),
        ("bytes=95-200", TEXT[95:], "95-99/100"),
        ("bytes=0-0", b"0", "0-0/100"),
        ("Bytes= 99-99 ", b"9", "99-99/100"),
    ],
)
def test_a_range(path: Path, field: str, content: bytes, where: str) -> None:
    status, found, response = served(path, f"Range: {field}")
    assert (status, found, response.length) == (206, content, len(content))
    assert response.headers["Content-Range"] == f"bytes {where}"


@pytest.mark.parametrize("field", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_beyond_the_file(path: Path, field: str) -> None:
    status, content, response = served(path, f"Range: {field}")
    assert (status, content) == (416, b"")
    assert response.headers["Content-Range"] == "bytes */100"


@pytest.mark.parametrize(
    "field",
    [
        "bytes=9-5",
        "bytes=a-b",
        "lines=0-5",
        "bytes=",
        "bytes=-",
        "bytes=0-1,5-6",
        f"bytes={'9' * 30}-",
        "bytes=²-",
    ],
)
def test_a_range_that_is_ignored(path: Path, field: str) -> None:
    assert served(path, f"Range: {field}")[:2] == (200, TEXT)


def test_a_range_is_for_get_alone(path: Path) -> None:
    assert served(path, "Range: bytes=0-1", method="HEAD")[0] == 200


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (["If-None-Match: {tag}"], 304),
        (["If-None-Match: W/{tag}"], 304),
        (['If-None-Match: "other", {tag}'], 304),
        (["If-None-Match: *"], 304),
        (['If-None-Match: "other"'], 200),
        (['If-None-Match: "other"', f"If-Modified-Since: {DATE}"], 200),
        ([f"If-Modified-Since: {DATE}"], 304),
        ([f"If-Modified-Since: {LATER}"], 304),
        ([f"If-Modified-Since: {EARLIER}"], 200),
        (["If-Modified-Since: nonsense"], 200),
        (["If-Match: {tag}"], 200),
        (["If-Match: *"], 200),
        (["If-Match: W/{tag}"], 412),
        (['If-Match: "other"'], 412),
        ([f"If-Unmodified-Since: {DATE}"], 200),
        ([f"If-Unmodified-Since: {EARLIER}"], 412),
        (["If-Match: {tag}", f"If-Unmodified-Since: {EARLIER}"], 200),
        (["If-Match: {tag}", "If-None-Match: {tag}"], 304),
        (["Range: bytes=0-1", "If-Range: {tag}"], 206),
        (["Range: bytes=0-1", "If-Range: W/{tag}"], 200),
        (["Range: bytes=0-1", 'If-Range: "other"'], 200),
        (["Range: bytes=0-1", f"If-Range: {DATE}"], 206),
        (["Range: bytes=0-1", f"If-Range: {LATER}"], 200),
        (["Range: bytes=0-1", "If-None-Match: {tag}"], 304),
        (["Range: bytes=200-", "If-Range: nonsense"], 200),
    ],
)
def test_conditions(path: Path, fields: list[str], status: int) -> None:
    found, _, response = served(path, *fields)
    assert found == status
    assert ("Content-Type" in response.headers) == (status in (200, 206))
    if status == 304:
        assert response.headers["ETag"]


def test_a_changed_file_has_another_tag(path: Path) -> None:
    before = Response.file(path).headers["ETag"]
    os.utime(path, ns=(1, 1_000_000_000_000_000_001))
    assert Response.file(path).headers["ETag"] != before


def test_a_file_that_has_just_changed_may_do_so_again_unseen(path: Path) -> None:
    os.utime(path)
    date = http_date(path.stat().st_mtime)
    response = Response.file(path)
    assert response.headers["ETag"].startswith('W/"')
    response.close()
    for validator in ("{tag}", date):
        assert served(path, "Range: bytes=0-9", f"If-Range: {validator}")[:2] == (200, TEXT)
    assert served(path, "If-Match: {tag}")[0] == 412
    assert served(path, "If-None-Match: {tag}")[0] == 304
    assert served(path, "Range: bytes=0-9")[0] == 206


def test_a_file_from_the_future_is_as_old_as_the_answer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gworker.http.files.time.time", lambda: 1_000_000_000.5)
    os.utime(path, (2_000_000_000, 2_000_000_000))
    response = Response.file(path)
    assert response.headers["Last-Modified"] == DATE
    assert response.headers["ETag"].startswith('"')
    response.close()
    assert (
        served(path, "Range: bytes=0-9", f"If-Range: {DATE}")[0] == 200
    )  # no two answers have one version of it
    assert served(path, "Range: bytes=0-9", "If-Range: {tag}")[0] == 206


def test_a_file_is_closed_however_it_ends(path: Path) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = count()
    response = Response.file(path)
    assert count() == before + 1
    parts = response.parts()
    next(parts)
    parts.close()
    assert count() == before
    Response.file(path)
    assert count() == before
    served(path, "If-None-Match: *")
    assert count() == before


def test_a_file_that_shrinks_is_noticed(path: Path) -> None:
    response = Response.file(path)
    path.write_bytes(b"")
    assert sum(map(len, response.parts())) < (
        response.length or 0
    )  # the protocol then cuts the connection


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("a b.txt", 'attachment; filename="a b.txt"'),
        ('a"b', "attachment; filename=\"a_b\"; filename*=UTF-8''a%22b"),
        ("é.txt", "attachment; filename=\"_.txt\"; filename*=UTF-8''%C3%A9.txt"),
        ("../x\r\ny", "attachment; filename=\"x__y\"; filename*=UTF-8''x%0D%0Ay"),
    ],
)
def test_download_name(path: Path, name: str, field: str) -> None:
    assert Response.file(path, download_name=name).headers["Content-Disposition"] == field


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Response.file(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        Response.file(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="regular"):
        Response.file(tmp_path / "fifo")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (DATE, 1_000_000_000),
        ("Sunday, 09-Sep-01 01:46:40 GMT", 1_000_000_000),
        ("Sun Sep  9 01:46:40 2001", 1_000_000_000),
        ("", None),
        ("0", None),
        ("Sun, 99 Sep 2001 01:46:40 GMT", None),
    ],
)
def test_dates(text: str, seconds: int | None) -> None:
    assert parse_date(text) == seconds
    assert http_date(1_000_000_000) == DATE


# ---- directories


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Static:
    """A site beside a secret."""
    root = tmp_path_factory.mktemp("static")
    (root / "secret").write_text("secret")
    (root / "site-secret").mkdir()
    (root / "site-secret" / "x").write_text("secret")
    public = root / "site"
    (public / "sub" / "deep").mkdir(parents=True)
    (public / "sub" / "index.html").write_text("sub")
    (public / "a b é.css").write_text("css")
    (public / ".hidden").write_text("hidden")
    (public / ".git").mkdir()
    (public / ".git" / "config").write_text("hidden")
    (public / "inside").symlink_to("sub/index.html")
    (public / "outside").symlink_to("../secret")
    (public / "away").symlink_to("../site-secret")
    (public / "loop").symlink_to("loop")
    os.mkfifo(public / "fifo")
    with (
        contextlib.chdir(public),
        socket.socket(socket.AF_UNIX) as listener,
    ):  # its path may be too long
        listener.bind("socket")
    return Static(public)


@pytest.mark.parametrize(
    ("target", "content"),
    [
        ("/sub/", "sub"),
        ("/sub/index.html", "sub"),
        ("/a%20b%20%C3%A9.css?v=1", "css"),
        ("/inside", "sub"),
    ],
)
def test_found(site: Static, target: str, content: str) -> None:
    response = site(request(f"GET {target} HTTP/1.1"))
    assert (response.status, b"".join(response.parts())) == (200, content.encode())


@pytest.mark.parametrize(
    "target",
    [
        "/../secret", "/sub/../../secret", "/%2e%2e/secret", "/%2E./secret", "/.%2e/secret",
        "/..%2fsecret", "/sub%2f..%2f..%2fsecret",
        "/%5c..%5csecret", "/..%5csecret", "//etc/passwd", "/%2fetc/passwd", "/sub//index.html",
        "/./sub/", "/sub/.",
        "/a%00.css", "/%00", "/sub/index.html%00.txt", "/a%0d%0ab", "http://a/../secret",
        "/%252e%252e/secret", "/..;/secret",
        "/outside", "/away/x", "/away/", "/away", "/loop", "/fifo", "/socket", "/.hidden",
        "/.git/config", "/%2ehidden", "/sub/deep/", "/none", "/sub/index.html/",
        "/" + "a" * 300, "/%ff", "*",
    ],
)  # fmt: skip
def test_refused(site: Static, target: str) -> None:
    response = site(request(f"GET {target} HTTP/1.1"))
    assert response.status in (400, 404)
    assert "secret" not in response.body


def test_a_device_is_not_even_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gworker.http.static.Descriptor", None)
    assert Static("/dev")(request("GET /null HTTP/1.1")).status == 404


def test_a_directory_without_its_slash(site: Static) -> None:
    response = site(request("GET /sub?a=b HTTP/1.1"))
    assert (response.status, response.headers["Location"]) == (301, "/sub/?a=b")
    assert site(request("GET /sub/deep HTTP/1.1")).status == 301


def test_only_get_and_head(site: Static) -> None:
    assert site(request("POST /sub/ HTTP/1.1")).headers["Allow"] == "GET, HEAD"
    assert site(request("HEAD /sub/ HTTP/1.1")).status == 200


def test_options_of_static(site: Static) -> None:
    other = Static(
        site.directory,
        prefix="/files",
        hidden=True,
        index="",
        headers={"Cache-Control": "max-age=60"},
    )
    assert other(request("GET /files/.hidden HTTP/1.1")).headers["Cache-Control"] == "max-age=60"
    assert other(request("GET /files HTTP/1.1")).headers["Location"] == "/files/"
    for target, status in (
        ("/files/sub/", 404),
        ("/filesX/inside", 404),
        ("/inside", 404),
        ("/files/inside", 200),
        ("/files/..", 400),
    ):
        assert other(request(f"GET {target} HTTP/1.1")).status == status
    with pytest.raises(NotADirectoryError):
        Static(site.directory + "/inside")
    with pytest.raises(ValueError, match="slash"):
        Static(site.directory, prefix="files")


# ---- forms

TYPE = "Content-Type: multipart/form-data; boundary=XX"
PARTS = (
    b'--XX\r\nContent-Disposition: form-data; name="title"\r\n\r\nt\xc3\xa9a\r\n'
    b'--XX\r\nContent-Disposition: form-data; name="title"\r\n\r\nagain\r\n'
    b'--XX\r\nContent-Disposition: form-data; name="up"; '
    b'filename="C:\\dir\\a.txt"\r\nContent-Type: text/plain\r\n\r\nline\r\n--XY\r\n'
    b'--XX\r\nContent-Disposition: form-data; name="none"; filename=""\r\n\r\n\r\n'
    b"--XX--\r\n"
)


def form(body: bytes = PARTS, kind: str = TYPE) -> Request:
    return request("POST / HTTP/1.1", kind, f"Content-Length: {len(body)}", body=body)


def test_multipart(tmp_path: Path) -> None:
    got = form()
    assert got.form == {"title": "again"}
    assert got.form.get_all("title") == ["téa", "again"]
    up, none = got.files["up"], got.files["none"]
    assert (up.filename, up.content_type, up.size, up.read()) == (
        "a.txt",
        "text/plain",
        10,
        b"line\r\n--XY",
    )
    assert (none.filename, none.size) == ("", 0)
    up.save(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"line\r\n--XY"
    with pytest.raises(FileExistsError):
        up.save(tmp_path / "a")
    got.close()
    assert up.file.closed


@pytest.mark.parametrize(
    ("body", "kind"), [(b"", TYPE), (b"--XX--\r\n", TYPE), (b"--XX--", TYPE), (b"", TYPE[:-11])]
)
def test_an_empty_multipart_body_is_an_empty_form(body: bytes, kind: str) -> None:
    got = form(body, kind).parse_form()
    assert (got.fields, got.files) == ({}, [])


@pytest.mark.parametrize(
    ("parameters", "filename"),
    [
        ("filename*=UTF-8''na%C3%AFve%20file.txt", "naïve file.txt"),
        ("filename*=utf-8'en'%e2%82%ac.txt", "€.txt"),
        ("filename*=ISO-8859-1''%A3", "£"),
        ("filename*=UTF-8''..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("filename*=UTF-8''a%0Ab", "ab"),
        ("filename*=UTF-8''", ""),
        ("filename=\"plain.txt\"; filename*=UTF-8''exact.txt", "exact.txt"),
        ("filename*=UTF-8''exact.txt; filename=\"plain.txt\"", "exact.txt"),
        ("filename=\"plain.txt\"; filename*=UTF-8''%FF", "plain.txt"),
        ('filename="plain.txt"; filename*=broken', "plain.txt"),
    ],
)
def test_a_part_with_an_extended_name_is_a_file(parameters: str, filename: str) -> None:
    got = form(
        '--XX\r\nContent-Disposition: form-data; name="up"; '
        f"{parameters}\r\n\r\nx\r\n--XX--\r\n".encode()
    )
    assert not got.form
    assert (got.files["up"].filename, got.files["up"].read()) == (filename, b"x")
    got.close()


@pytest.mark.parametrize(
    "extended", ["UTF-8''%FF", "broken", "UTF-16''a", "UTF-8''a b", "''a", "UTF-8''a%4"]
)
def test_a_malformed_extended_name_is_refused_where_there_is_no_other(extended: str) -> None:
    name = (
        '--XX\r\nContent-Disposition: form-data; name="up"; '
        f'filename*="{extended}"\r\n\r\nx\r\n--XX--\r\n'
    )
    with pytest.raises(BadRequest, match=r"malformed filename\* of the field 'up'") as refused:
        form(name.encode()).parse_form()
    assert refused.value.status == 400


@pytest.mark.parametrize("name", [b".", b"..", b"a/..", b"C:\\..", b".\x01."])
def test_a_file_is_not_called_like_a_directory(name: bytes) -> None:
    got = form(
        b'--XX\r\nContent-Disposition: form-data; name="up"; filename="%b"\r\n\r\nx\r\n--XX--\r\n'
        % name
    )
    assert got.files["up"].filename == ""
    got.close()


def test_saving_a_large_file_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []
    part = b'--XX\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n%b\r\n--XX--'
    data = os.urandom(1 << 20)
    file = form(part % data).files["f"]
    monkeypatch.setattr("gworker.http.slices.give_way", lambda: turns.append(1))
    file.save(tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == data
    assert len(turns) >= len(data) // forms.PIECE - 1


def test_large_files_are_on_disk() -> None:
    part = b'--XX\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n%b\r\n'
    got = form(
        part % b"a" * 1 + part.replace(b'"f"', b'"g"') % (b"x" * (forms.SPOOL + 1)) + b"--XX--"
    )
    files = got.files
    assert [file.file._rolled for file in files.values()] == [False, True]  # type: ignore[attr-defined]
    assert files["g"].read() == b"x" * (forms.SPOOL + 1)
    got.close()


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"--XX", TYPE, 400),
        (PARTS[:-6], TYPE, 400),
        (PARTS.replace(b"form-data; name", b"form-data; x"), TYPE, 400),
        (PARTS.replace(b"\r\n\r\nt", b"\r\n t\r\n\r\n"), TYPE, 400),
        (b"preamble " * 100, TYPE, 400),
        (PARTS, "Content-Type: multipart/form-data", 400),
        (PARTS, 'Content-Type: multipart/form-data; boundary=""', 400),
        (PARTS, f"Content-Type: multipart/form-data; boundary={'x' * 71}", 400),
        (PARTS.replace(b"\xc3", b"\xff"), TYPE, 400),
        (PARTS.replace(b"text/plain\r\n", b"text/plain\r\n" + b"X: y\r\n" * 50), TYPE, 413),
        (PARTS.replace(b"text/plain\r\n", b"text/plain\r\nX: " + b"y" * 9000 + b"\r\n"), TYPE, 413),
        (PARTS.replace(b"again", b"a" * (forms.MAX_FIELD_BYTES + 1)), TYPE, 413),
        (
            b'--XX\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 1001 + b"--XX--",
            TYPE,
            413,
        ),
        (PARTS, "Content-Type: application/json", 415),
        (b"&".join([b"a=b"] * 5000), "Content-Type: application/x-www-form-urlencoded", 400),
    ],
)
def test_malformed_forms(body: bytes, kind: str, status: int) -> None:
    with pytest.raises(BadRequest) as refused:
        _ = form(body, kind).form
    assert refused.value.status == status
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize("where", ["the request", "a part", "the name of a part"])
def test_an_unfinished_quotation_costs_no_more_than_its_length(where: str) -> None:
    unfinished = '; x;a="' + "\\a" * 24
    kind, body = TYPE + unfinished, PARTS
    if where == "a part":
        kind, body = TYPE, PARTS.replace(b"text/plain", b"text/plain" + unfinished.encode())
    elif where == "the name of a part":
        kind, body = TYPE, PARTS.replace(b'"title"', b'"title"' + unfinished.encode() + b" " * 3000)
    began = time.process_time()
    with contextlib.suppress(BadRequest):
        request("POST / HTTP/1.1", kind, body=body).parse_form().close()
    assert time.process_time() - began < 0.5


def test_limits_of_a_form() -> None:
    with pytest.raises(BadRequest, match="100 bytes"):
        form().parse_form(max_size=100)
    with pytest.raises(BadRequest, match="count"):
        form().parse_form(max_parts=2)
    assert (
        len(form().parse_form(max_parts=4).files) == 2
    )  # nobody closes them, and nothing is left open


def many(files: int, size: int) -> Request:
    part = b'--XX\r\nContent-Disposition: form-data; name="%d"; filename="f"\r\n\r\n%b\r\n'
    return form(b"".join(part % (at, b"x" * size) for at in range(files)) + b"--XX--")


def test_one_form_takes_so_many_descriptors_and_so_much_memory() -> None:
    with pytest.raises(BadRequest, match="64 files") as refused:
        many(65, 1).parse_form()
    assert refused.value.status == 413
    with pytest.raises(BadRequest, match="1 files"):
        many(2, 1).parse_form(max_files=1)
    got = many(40, 60000).parse_form()
    held = [file.size for _, file in got.files if not file.file._rolled]  # type: ignore[attr-defined]
    assert forms.MAX_HELD_BYTES - 60000 < sum(held) <= forms.MAX_HELD_BYTES
    assert {(file.size, file.read()) for _, file in got.files} == {(60000, b"x" * 60000)}
    got.close()


def test_a_malformed_form_leaves_no_file_open(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[UploadedFile] = []
    init = UploadedFile.__init__

    def note(self: UploadedFile, *arguments: str) -> None:
        init(self, *arguments)
        made.append(self)

    monkeypatch.setattr(UploadedFile, "__init__", note)
    with pytest.raises(BadRequest):
        _ = form(PARTS[:-6]).files
    assert [each.file.closed for each in made] == [True, True]


def test_the_stream_of_a_whole_request() -> None:
    stream = request(body=b"one\ntwo").stream
    assert isinstance(stream, io.BufferedIOBase)
    assert stream.read(2) == b"on"
    assert list(stream) == [b"e\n", b"two"]


# ---- events


@pytest.mark.parametrize(
    ("event", "lines"),
    [
        (Event("a"), "data: a\n\n"),
        (Event("a\nb\r\nc\rd\n"), "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"),
        (Event(""), "data: \n\n"),
        (Event({"a": "é"}), 'data: {"a": "é"}\n\n'),
        (Event(["\ud800é"]), 'data: ["\\ud800\\u00e9"]\n\n'),
        (
            Event("x", event="tick", id=7, retry=1000),
            "event: tick\nid: 7\nretry: 1000\ndata: x\n\n",
        ),
        (Event(retry=5), "retry: 5\n\n"),
    ],
)
def test_event(event: Event, lines: str) -> None:
    assert event.encode() == lines.encode()


@pytest.mark.parametrize(
    "wrong", [{"event": "a\nb"}, {"id": "a\rb"}, {"id": "\0"}, {"retry": -1}, {"retry": "5"}]
)
def test_events_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"line|milliseconds"):
        Event("x", **wrong)
    event = Event("x")
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=r"line|milliseconds"):
            setattr(event, name, value)
    assert event.encode() == b"data: x\n\n"


def test_events_of_all_kinds_and_their_end() -> None:
    closed = []

    def source():
        try:
            yield from ["a", {"data": "b", "id": 1}, Event("c")]
            yield "d"
        finally:
            closed.append(True)

    response = Response.events(source(), {"X-A": "b"}, keep_alive=5)
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-cache"
    parts = response.parts()
    assert [next(parts) for _ in range(3)] == [
        b"data: a\n\n",
        b"id: 1\ndata: b\n\n",
        b"data: c\n\n",
    ]
    parts.close()
    assert closed == [True]


# ---- cookies


def test_all_attributes_of_a_cookie() -> None:
    response = Response()
    response.set_cookie(
        "a", "1", expires=1_000_000_000, samesite="none", secure=True, partitioned=True
    )
    response.set_cookie("b", "1", path=None, expires=datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC))
    response.set_cookie("__Host-c", "1", secure=True)
    response.delete_cookie("d", secure=True, partitioned=True)
    response.set_cookie("__Host", "1", path=None)
    assert response.headers.get_all("Set-Cookie") == [
        f"a=1; Expires={DATE}; Path=/; SameSite=None; Secure; Partitioned",
        f"b=1; Expires={DATE}",
        "__Host-c=1; Path=/; Secure",
        "d=; Max-Age=0; Path=/; Secure; Partitioned",
        "__Host=1",
    ]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a", {"partitioned": True}),
        ("a", {"samesite": "None"}),
        ("__Secure-a", {}),
        ("__host-a", {"secure": True, "domain": "a.example"}),
        ("__Host-a", {"secure": True, "path": "/x"}),
        ("a", {"path": "/\r\nX: y"}),
        ("a", {"domain": "a; Secure"}),
    ],
)
def test_cookies_that_browsers_would_drop(name: str, options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="cookie"):
        Response().set_cookie(name, "1", **options)
