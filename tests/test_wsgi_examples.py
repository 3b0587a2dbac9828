"""The examples of WSGI, Flask and a project of Django, by real clients, also while processes come
and go."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import places
import pytest
import requests
from example import ANY, Example, starting
from instance import DEADLINE, wait_for

SITE = places.EXAMPLES / "django_site"

pytestmark = pytest.mark.timeout(180)

WAYS: dict[str, Callable[[Example], object]] = {
    "reload": lambda example: example.reload(),
    "scale": lambda example: [example.run("scale", NAME, number) for number in ("3", "2")],
    "recycle": lambda example: time.sleep(1),  # --max-requests does it
}

NAME = "application"


# ---- Flask


@pytest.fixture(scope="module")
def flask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    with starting(tmp_path_factory.mktemp("flask")) as start:
        yield start("flask_app.py", "--bind", f"http://{ANY}", "-w", "2")


def test_flask(flask: Example) -> None:
    url = f"http://127.0.0.1:{flask.port('http')}"
    assert requests.get(url, timeout=DEADLINE).text == "<h1>Hello</h1>\n"
    assert requests.get(f"{url}/process", timeout=DEADLINE).json()["peer"] == "127.0.0.1"
    for size in (1000, 300_000):
        sent = {"file": ("a b.txt", b"x" * size)}
        got = requests.post(f"{url}/upload", files=sent, timeout=DEADLINE).json()
        assert got == {"name": "a b.txt", "size": size}
    assert requests.get(f"{url}/countdown?from=2", timeout=DEADLINE).text == "2\n1\n"


def test_a_kept_connection_of_flask_moves_to_the_new_process(flask: Example) -> None:
    with requests.Session() as session:
        url = f"http://127.0.0.1:{flask.port('http')}/process"
        before = session.get(url, timeout=DEADLINE).json()["pid"]
        assert flask.reload()["exit"] == 0
        assert session.get(url, timeout=DEADLINE).json()["pid"] != before
        status = flask.status()["last_reload"]
        assert status["handed_over"] >= 1
        assert status["closed"] == 0


# ---- Django


@contextmanager
def django(directory: Path, *options: str) -> Iterator[tuple[Example, str]]:
    """The site with a fresh database, and its address."""
    data = directory / "data"
    data.mkdir()
    environment = {**os.environ, "DATA": str(data), "DJANGO_SUPERUSER_PASSWORD": "pw"}
    for command in (
        ["migrate", "--verbosity", "0"],
        ["collectstatic", "--no-input", "--verbosity", "0"],
        ["createsuperuser", "--no-input", "--username", "root", "--email", "a@b.example"],
    ):
        subprocess.run(
            [sys.executable, str(SITE / "manage.py"), *command], env=environment, check=True,
            cwd=SITE, timeout=DEADLINE,
        )  # fmt: skip
    example = Example(directory / "site", "")
    try:
        example.start(
            "--chdir", str(SITE), "--env", f"DATA={data}", "--bind", f"http://{ANY}", "-w", "2",
            *options, target="mysite.wsgi",
        )  # fmt: skip
        yield example, f"http://127.0.0.1:{example.port('http')}"
    finally:
        example.kill()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with django(tmp_path_factory.mktemp("django")) as (_, url):
        yield url


def token(text: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', text)
    assert found, text
    return found[1]


def test_the_admin_and_its_static_files(site: str) -> None:
    with requests.Session() as session:
        page = session.get(f"{site}/admin/", timeout=DEADLINE)
        assert "/admin/login/" in page.url
        form = {"username": "root", "password": "pw", "csrfmiddlewaretoken": token(page.text)}
        page = session.post(page.url, {**form, "next": "/admin/"}, timeout=DEADLINE)
        assert "Site administration" in page.text
        style = session.get(f"{site}/static/admin/css/base.css", timeout=DEADLINE)
        assert style.headers["content-type"].startswith("text/css")
        fields = {"If-Modified-Since": style.headers["last-modified"]}
        again = session.get(style.url, headers=fields, timeout=DEADLINE)
        assert (again.status_code, again.content) == (304, b"")
        part = session.get(style.url, headers={"Range": "bytes=0-9"}, timeout=DEADLINE)
        assert (part.status_code, part.content) == (206, style.content[:10])


@pytest.mark.parametrize("size", [1000, 5_000_000])
def test_an_upload_and_its_download(site: str, size: int) -> None:
    content = os.urandom(size)
    with requests.Session() as session:
        form = {
            "text": f"of {size} bytes",
            "csrfmiddlewaretoken": token(session.get(site, timeout=DEADLINE).text),
        }
        sent = {"file": ("naïve.bin", content)}
        page = session.post(f"{site}/", form, files=sent, timeout=DEADLINE).text
        assert f"of {size} bytes" in page
        found = re.search(rf"of {size} bytes <a href=\"(.+?)\"", page)
        assert found
        assert session.get(site + found[1], timeout=DEADLINE).content == content


def test_a_form_without_its_token_is_refused(site: str) -> None:
    assert requests.post(f"{site}/", {"text": "x"}, timeout=DEADLINE).status_code == 403


def test_a_chunked_body_reaches_django(site: str) -> None:
    for pieces in ([b"abc", b"def"], [b"a" * 60_000] * 5):
        got = requests.post(f"{site}/process", data=iter(pieces), timeout=DEADLINE).json()
        assert got["sha1"] == hashlib.sha1(b"".join(pieces)).hexdigest()


def test_a_stream_comes_line_by_line(site: str) -> None:
    with requests.get(f"{site}/export.csv", stream=True, timeout=DEADLINE) as answer:
        assert next(answer.iter_lines()) == b"id,text"
        assert answer.headers["transfer-encoding"] == "chunked"


class Poster(threading.Thread):
    """Posts on one connection as long as that lives, then on the next one, until it is told to end.

    A connection may end between two requests if the answer before has said so.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.place = url.removeprefix("http://")
        self.is_over = False
        self.pids: set[int] = set()
        self.answers = 0
        self.failures: list[str] = []

    def run(self) -> None:
        body = os.urandom(3000)
        digest = hashlib.sha1(body).hexdigest()
        while not self.is_over:
            connection = http.client.HTTPConnection(self.place, timeout=DEADLINE)
            try:
                while not self.is_over:
                    connection.request("POST", "/process", body)
                    answer = connection.getresponse()
                    got = json.loads(answer.read())
                    assert got["sha1"] == digest
                    self.pids.add(got["pid"])
                    self.answers += 1
                    if answer.will_close:
                        break
            except Exception as error:
                self.failures.append(repr(error))
            finally:
                connection.close()


@pytest.mark.parametrize("way", WAYS)
def test_no_request_fails_and_no_stream_is_cut_while_processes_come_and_go(
    tmp_path: Path, way: str
) -> None:
    options = ["--max-requests", "300"] if way == "recycle" else []
    with django(tmp_path, *options) as (example, url), ExitStack() as stack:
        with requests.Session() as session:
            for number in range(20):
                key = token(session.get(url, timeout=DEADLINE).text)
                form = {"text": f"note {number}", "csrfmiddlewaretoken": key}
                session.post(f"{url}/", form, timeout=DEADLINE)
        posters = [Poster(url) for _ in range(4)]
        for each in posters:
            each.start()
            stack.callback(each.join)
        stack.callback(lambda: [setattr(each, "is_over", True) for each in posters])
        for _ in range(3):
            stream = requests.get(f"{url}/export.csv?pause=0.1", stream=True, timeout=DEADLINE)
            lines = stream.iter_lines()
            next(lines)
            WAYS[way](example)
            assert sum(1 for _ in lines) == 20
        wait_for(lambda: sum(each.answers for each in posters) > 1500, "enough answers")
        stack.close()
        assert [each.failures for each in posters] == [[]] * 4
        seen: set[int] = set().union(*(each.pids for each in posters))
        assert len(seen) >= (2 if way == "scale" else 4)  # kept connections stay when it grows


def test_a_stop_waits_for_a_stream(tmp_path: Path) -> None:
    with django(tmp_path) as (example, url):
        stream: Any = requests.get(f"{url}/export.csv?pause=0.1", stream=True, timeout=DEADLINE)
        assert example.run("stop").returncode == 0
        assert stream.content == b"id,text\n"
