"""The files of contrib/ at work: nginx and HAProxy in front of an instance, logrotate beside it,
its unix socket."""

from __future__ import annotations

import contextlib
import getpass
import grp
import http.client
import itertools
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import places
import pytest
from instance import DEADLINE, Instance, wait_for
from websockets.sync.client import connect

pytestmark = pytest.mark.timeout(180)

ROOT = places.ROOT
CONTRIB = ROOT / "contrib"
APP = (ROOT / "tests" / "apps" / "behind_proxy.py").read_text()
MOST_DESCRIPTORS = 20_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    one = Instance(tmp_path_factory.mktemp("contrib") / "instance", APP)
    (one.directory / "sockets").mkdir()
    try:
        one.start("-w", "2")
        yield one
    finally:
        one.kill()


PORTS = itertools.count(20_000 + os.getpid() % 10_000)
"""Below those that the kernel gives to others, so that none is taken between the look and the
use."""


def free_port() -> int:
    for port in PORTS:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def running(command: list[str], log: Path, *ports: int) -> Iterator[None]:
    """A program in the foreground, from when it listens on `ports`."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        for port in ports:
            wait_for(
                lambda port=port: listens(port) or process.poll() is not None,  # type: ignore[misc]
                f"{command[0]} listens on {port}",
            )
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE)


@pytest.fixture(scope="module", params=["nginx", "haproxy"])
def proxy(
    request: pytest.FixtureRequest, served: Instance, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The port of a proxy before `served`."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    start = nginx if request.param == "nginx" else haproxy
    with start(served, tmp_path_factory.mktemp(request.param)) as (port, *_):
        yield port


@contextlib.contextmanager
def nginx(served: Instance, directory: Path) -> Iterator[tuple[int]]:
    port = free_port()
    text = (CONTRIB / "nginx" / "nginx.conf").read_text()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)
    for old, new in (
        ("/run/nginx.pid", f"{directory}/pid"),
        ("worker_processes auto", "worker_processes 1"),
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        ("127.0.0.1:8000;\n        # Worker", f"127.0.0.1:{served.port('web')};\n        # Worker"),
        ("\nhttp {", f"\nhttp {{ access_log off; {places}"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    if os.geteuid() == 0:  # its processes write what clients send into these directories
        text = f"user {getpass.getuser()};\n{text}"
    (directory / "nginx.conf").write_text(text)
    command = ["nginx", "-e", "stderr", "-c", str(directory / "nginx.conf"), "-g", "daemon off;"]
    with running(command, directory / "log", port):
        yield (port,)


@contextlib.contextmanager
def haproxy(served: Instance, directory: Path) -> Iterator[tuple[int, int]]:
    """With as many descriptors as `maxconn` is said to fit into; it refuses to start with fewer
    than it needs."""
    web, lines = free_port(), free_port()
    text = (CONTRIB / "haproxy" / "haproxy.cfg").read_text()
    for old, new in (
        ("bind :80", f"bind 127.0.0.1:{web}"),
        ("bind :7000", f"bind 127.0.0.1:{lines}"),
        ("server one 127.0.0.1:8000", f"server one 127.0.0.1:{served.port('web')}"),
        ("server one 127.0.0.1:7001", f"server one 127.0.0.1:{served.port('lines')}"),
    ):
        assert old in text
        text = text.replace(old, new)
    path = directory / "haproxy.cfg"
    path.write_text(text)
    limited = ["sh", "-c", f'ulimit -n {MOST_DESCRIPTORS} && exec "$@"', "sh"]
    with running([*limited, "haproxy", "-db", "-f", str(path)], directory / "log", web, lines):
        wait_for(lambda: get(web, "/")[0] == 200, "the check has found that the server is up")
        yield web, lines


def get(port: int, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    """Status and body of one exchange."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    with contextlib.closing(client):
        client.request("GET" if body is None else "POST", path, body, headers)
        answer = client.getresponse()
        return answer.status, answer.read().decode()


def test_requests_pass_with_the_address_of_the_client(proxy: int) -> None:
    assert get(proxy, "/") == (200, "127.0.0.1 http 0")
    forged = {"X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.2"}
    assert get(proxy, "/", b"x" * 100_000, **forged) == (200, "127.0.0.1 http 100000")


def test_websockets_pass(proxy: int) -> None:
    with connect(f"ws://127.0.0.1:{proxy}/ws", open_timeout=DEADLINE) as client:
        for message in ("hello", b"\0" * 70_000):
            client.send(message)
            assert client.recv(timeout=DEADLINE) == message


def test_events_pass(proxy: int) -> None:
    assert get(proxy, "/events") == (200, "data: 0\n\ndata: 1\n\ndata: 2\n\n")


def test_haproxy_tells_the_client_of_a_tcp_protocol(served: Instance, tmp_path: Path) -> None:
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed")
    with (
        haproxy(served, tmp_path) as (_, port),
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as client,
    ):
        client.sendall(b"hello\n")
        assert client.recv(1000) == "{}:{} hello\n".format(*client.getsockname()).encode()


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user may enter. Those of pytest are its user's alone."""
    with tempfile.TemporaryDirectory(prefix="gworker-test-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv(1)"
)
def test_a_unix_socket_may_be_opened_by_the_group_of_the_service(public: Path) -> None:
    """As the unit makes its directory and the Worker its socket; nginx's user is in the group by a
    line of sysusers."""
    (mode,) = re.findall(
        r"RuntimeDirectoryMode=(\d+)", (CONTRIB / "systemd" / "gworker@.service").read_text()
    )
    (umask,) = re.findall(r"UMask=(\d+)", (CONTRIB / "systemd" / "gworker@.service").read_text())
    service, group, stranger = 61_000, 61_001, pwd.getpwnam("nobody").pw_uid
    one = Instance(public / "instance", APP)
    sockets = one.directory / "sockets"
    sockets.mkdir()
    sockets.chmod(int(mode, 8))
    for path in (one.directory, sockets):
        os.chown(path, service, group)
    # The Python of this test may lie where only root can read, hence one capability: to read
    # everything.
    kept = [f"--{kind}-caps=-all,+dac_read_search" for kind in ("inh", "ambient")]
    user = ["setpriv", f"--reuid={service}", f"--regid={group}", "--clear-groups"]
    one.prefix = [*user, *kept, "--bounding-set=-all,+dac_read_search"]
    client = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    program = [shutil.which("python3", path="/usr/bin:/bin") or sys.executable, "-c", client]
    try:
        one.start("--umask", umask)
        opened = {
            groups: subprocess.run(
                ["setpriv", f"--reuid={stranger}", f"--regid={stranger}", groups, *program,
                str(sockets / "http.sock")],
                capture_output=True, text=True, timeout=DEADLINE, check=False,
            ).returncode
            for groups in (f"--groups={group}", "--clear-groups")
        }  # fmt: skip
    finally:
        one.kill()
    assert opened == {f"--groups={group}": 0, "--clear-groups": 1}


def test_logrotate_loses_no_line(served: Instance, tmp_path: Path) -> None:
    if shutil.which("logrotate") is None:
        pytest.skip("logrotate is not installed")
    text = (CONTRIB / "logrotate" / "gworker").read_text()
    ours = f"{getpass.getuser()} {grp.getgrgid(os.getegid()).gr_name}"
    text = text.replace("gworker gworker", ours).replace("/var/log/gworker/*.log", str(served.log))
    text = text.replace("/run/gworker/*.pid /run/gworker-*/*.pid", f"{served.runtime}/*.pid")
    path = tmp_path / "gworker"
    path.write_text(text)
    path.chmod(0o644)
    before = served.read_log()
    done = subprocess.run(
        ["logrotate", "-f", "-s", str(tmp_path / "state"), str(path)],
        capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    served.wait_log("log files reopened")
    (rotated,) = served.log.parent.glob("log-*")
    assert rotated.read_text().startswith(before)
