"""Directories of files: what is found, what is refused."""

from __future__ import annotations

import contextlib
import os
import socket

import pytest
from responses import streamed

from gworker.http import Request, Static


def request(line: str = "GET / HTTP/1.1", *fields: str, body: bytes = b"") -> Request:
    return Request("\r\n".join([line, "Host: a", *fields, "", ""]).encode("latin-1"), body)


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
    assert (response.status, b"".join(streamed(response).parts())) == (200, content.encode())


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
