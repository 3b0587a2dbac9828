"""Forms: parts, files, what is malformed, and what one form may cost."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest

from gworker.http import BadRequest, Request, UploadedFile, forms


def request(line: str = "GET / HTTP/1.1", *fields: str, body: bytes = b"") -> Request:
    return Request("\r\n".join([line, "Host: a", *fields, "", ""]).encode("latin-1"), body)


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
    )  # they are never closed, and nothing is left open


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
