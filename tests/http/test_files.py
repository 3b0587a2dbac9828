"""Files: ranges, conditions, names of downloads; without any server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from responses import streamed

from gworker.http import Request, Response
from gworker.http.date import http_date

TEXT = b"0123456789" * 10


def request(line: str = "GET / HTTP/1.1", *fields: str, body: bytes = b"") -> Request:
    return Request("\r\n".join([line, "Host: a", *fields, "", ""]).encode("latin-1"), body)


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
    asked = request(f"{method} / HTTP/1.1", *(field.replace("{tag}", tag) for field in fields))
    body = streamed(response)
    body.resolve(asked, response)
    content = b"".join(body.parts()) if response.body is body else b""
    return response.status, content, response


def test_a_whole_file(path: Path) -> None:
    status, content, response = served(path)
    assert (status, content, streamed(response).length) == (200, TEXT, 100)
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
    assert (status, found, streamed(response).length) == (206, content, len(content))
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
    streamed(response).close()
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
    streamed(response).close()
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
    parts = streamed(response).parts()
    next(parts)
    parts.close()
    assert count() == before
    Response.file(path)
    assert count() == before
    served(path, "If-None-Match: *")
    assert count() == before


def test_a_file_that_shrinks_is_noticed(path: Path) -> None:
    body = streamed(Response.file(path))
    path.write_bytes(b"")
    size = sum(map(len, body.parts()))
    assert size < (body.length or 0)  # the protocol then cuts the connection


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
