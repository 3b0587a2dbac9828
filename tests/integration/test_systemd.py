"""An instance under a service manager: sockets that were passed to it, what it tells, orphans,
containers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import places
import psutil
import pytest
from instance import DEADLINE, Instance, wait_for

pytestmark = pytest.mark.timeout(180)


def app(directory: Path, version: str) -> str:
    text = places.app("activated")
    return text.replace("DIRECTORY", str(directory)).replace("VERSION", version)


class Service(Instance):
    """An instance whose service manager is this test."""

    manager: socket.socket

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, app(directory, "v1"))
        self.heard: list[dict[str, str]] = []
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(directory / "notify"))
        self.manager.setblocking(False)
        self.prefix = [
            *places.program("hands_over_sockets"),
            str(directory / "notify"),
            str(directory / "a.sock"),
        ]

    def listen(self) -> list[dict[str, str]]:
        """All that was told so far."""
        try:
            while True:
                lines = self.manager.recv(65536).decode().split("\n")
                self.heard.append(dict(line.split("=", 1) for line in lines))
        except BlockingIOError:
            return self.heard

    def wait_told(self, name: str, since: int = 0) -> dict[str, str]:
        """The first message after the first `since` ones that has `name`."""
        told = wait_for(
            lambda: [each for each in self.listen()[since:] if name in each], f"{name} is told"
        )
        return told[0]

    def ask_unix(self, line: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE)
            client.connect(str(self.directory / "a.sock"))
            client.sendall(line)
            return client.recv(65536)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    one = Service(tmp_path_factory.mktemp("systemd") / "instance")
    try:
        one.start("--timeout", "0")  # the watchdog's interval is what a loop may hang then
        yield one
    finally:
        one.kill()
        one.manager.close()


def test_ready_is_told_when_all_processes_are(service: Service) -> None:
    ready = service.wait_told("READY")
    assert ready == {
        "READY": "1",
        "MAINPID": str(service.pid),
        "STATUS": "3 processes, generation 1",
    }


def test_activated_sockets_are_served(service: Service) -> None:
    port = service.port("web")
    (listening,) = (
        each
        for each in psutil.Process(service.pid).net_connections("tcp")
        if each.laddr.port == port
    )
    assert listening.fd in (3, *range(3, 64))
    assert json.loads(service.ask("web", b"?\n"))[0] == "v1"
    assert json.loads(service.ask_unix(b"?\n"))[0] == "v1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(DEADLINE)
        client.sendto(b"hello", ("127.0.0.1", service.port("datagrams")))
        assert client.recv(100) == b"hello"
    service.wait_log(
        "no Worker wants the activated socket 'nobody' (descriptor 6, stream at 127.0.0.1:"
    )


def test_processes_inherit_neither_the_variables_nor_the_sockets(service: Service) -> None:
    _, names, pid = json.loads(service.ask("web", b"?\n"))
    assert not {name for name in names if name.startswith(("LISTEN_", "NOTIFY_", "WATCHDOG_"))}
    found = psutil.Process(pid).net_connections("inet")
    assert {each.laddr.port for each in found} == {service.port("web")}, (
        "it holds what it serves and nothing else"
    )


def test_a_reload_is_told_and_keeps_the_sockets(service: Service) -> None:
    ports, path = (service.port("web"), service.port("datagrams")), service.directory / "a.sock"
    before, inode = len(service.listen()), path.stat().st_ino
    service.write(app(service.directory, "v2"))
    service.signal(signal.SIGHUP)
    told = service.wait_told("RELOADING", before)
    assert int(told["MONOTONIC_USEC"]) > 0
    assert service.wait_told("READY", before)["STATUS"].startswith("3 processes, generation ")
    assert (
        json.loads(service.ask("web", b"?\n"))[0] == json.loads(service.ask_unix(b"?\n"))[0] == "v2"
    )
    assert (service.port("web"), service.port("datagrams"), path.stat().st_ino) == (*ports, inode)


def test_a_refused_reload_ends_as_well(service: Service) -> None:
    before = len(service.listen())
    service.write("def (")
    service.signal(signal.SIGHUP)
    service.wait_told("RELOADING", before)
    assert (
        "reload refused: target 'app' failed to load: SyntaxError"
        in service.wait_told("READY", before)["STATUS"]
    )


def test_signs_of_life_come_while_it_is_well_and_only_then(service: Service) -> None:
    before = len(service.listen())
    service.wait_told("WATCHDOG", before)
    (row,) = service.workers("web")
    os.kill(row["pid"], signal.SIGSTOP)
    try:
        service.wait_log("no sign of life: no process of web has turned its event loop for 2 s")
        ill = len(service.listen())
    finally:
        os.kill(row["pid"], signal.SIGCONT)
    service.wait_told("WATCHDOG", ill)


def test_orphans_are_reaped(service: Service) -> None:
    orphan = int(service.ask("web", b"orphan\n"))
    assert psutil.Process(orphan).ppid() == service.pid, "it is ours now"
    wait_for(lambda: not psutil.pid_exists(orphan), "the orphan has ended and is no zombie")
    assert service.status()["exits"] == []


def test_stopping_is_told_and_the_managers_socket_stays(service: Service) -> None:
    before = len(service.listen())
    service.signal(signal.SIGTERM)
    assert service.wait_exit() == 0
    service.wait_told("STOPPING", before)
    assert (service.directory / "a.sock").exists()


def test_sockets_that_make_no_sense_are_a_failed_start(tmp_path: Path) -> None:
    variables = 'LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web exec "$@"'
    done = subprocess.run(
        ["sh", "-c", variables, "sh", sys.executable, "-m", "gworker", "app"],
        cwd=tmp_path, text=True, capture_output=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == "gworker: error: LISTEN_FDNAMES='web' has 1 names for LISTEN_FDS=2 sockets\n"
    )


# ---- containers


@pytest.fixture
def make(open_path: Path) -> Iterator[Callable[[], Instance]]:
    """`make()`: an instance whose directory every user may read."""
    made: list[Instance] = []

    def one() -> Instance:
        made.append(Instance(open_path / "instance", app(open_path / "instance", "v1")))
        return made[-1]

    yield one
    for instance in made:
        instance.kill()


def can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False
    )
    return tried.returncode == 0


@pytest.mark.skipif(
    not can_unshare(), reason="needs unshare(1) and the permission to make a PID namespace"
)
def test_as_pid_1(make: Callable[[], Instance]) -> None:
    one = make()
    # Its pid file says 1: it must not lie where Instance.kill looks for processes to kill.
    one.runtime = one.directory / "inside"
    one.prefix = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    one.start("--graceful-timeout", "5")
    one.runtime = one.directory / "run"
    assert one.process is not None
    (arbiter,) = psutil.Process(one.process.pid).children()
    try:
        assert (one.directory / "inside" / "app.pid").read_text().strip() == "1"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(one.directory / "a.sock"))
            client.settimeout(DEADLINE)
            client.sendall(b"orphan\n")
            assert int(client.recv(100)) > 1
        wait_for(
            lambda: "sleep" not in [each.name() for each in arbiter.children()],
            "the orphan is reaped",
        )
        assert len(arbiter.children()) == 3
    finally:
        arbiter.send_signal(signal.SIGTERM)
    assert one.wait_exit() == 0
    assert "stopped" in one.read_log()


@pytest.fixture
def stranger() -> Iterator[int]:
    """The number of a user without an entry, whose directories under /tmp others have taken."""
    uid = 100_000 + os.getpid()
    taken = [Path(directory, f"gworker-{uid}") for directory in ("/tmp", "/var/tmp")]
    for path in taken:
        path.write_text("")
    yield uid
    for path in taken:
        path.unlink()


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv(1)"
)
def test_with_no_home_and_nowhere_to_write(
    make: Callable[[], Instance], tmp_path: Path, stranger: int
) -> None:
    one = make()
    locked = tmp_path / "locked"
    locked.mkdir()
    # The Python of this test may lie where only root can read, hence one capability: to read
    # everything.
    dropped = ["setpriv", f"--reuid={stranger}", f"--regid={stranger}", "--clear-groups"]
    dropped += [
        f"--{kind}-caps={'-all,' * (kind == 'bounding-set')}+dac_read_search"
        for kind in ("inh", "ambient")
    ]
    dropped = [each.replace("--bounding-set-caps", "--bounding-set") for each in dropped]
    surroundings = [
        "env",
        "HOME=/nonexistent",
        f"XDG_RUNTIME_DIR={locked}",
        f"TMPDIR={locked}",
        "PYTHONDONTWRITEBYTECODE=1",
    ]
    command = [
        *dropped,
        *surroundings,
        sys.executable,
        "-m",
        "gworker",
        "app:web",
        "--log-level",
        "debug",
    ]
    refused = subprocess.run(
        [*command, "--runtime-dir", str(locked / "run")],
        cwd=one.directory, text=True, capture_output=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert refused.stderr.startswith(
        f"gworker: error: cannot make the runtime directory {locked}/run: Permission denied"
    )
    assert "choose another with --runtime-dir" in refused.stderr
    with (one.log).open("w") as log:
        one.process = subprocess.Popen(
            command, cwd=one.directory, text=True, stdout=log, stderr=log
        )
    one.wait_log(" is ready: ")
    assert one.read_log().count("WARNING") == 1
    assert (
        "no pid file and no control socket, so status, reload and stop cannot find this instance: "
        in one.read_log()
    )
    port = int(one.read_log().partition("text://127.0.0.1:")[2].split()[0])
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as client:
        client.sendall(b"?\n")
        assert json.loads(client.recv(65536))[0] == "v1"
    one.process.send_signal(signal.SIGHUP)
    one.wait_log("generation 2 serves")
    one.process.send_signal(signal.SIGTERM)
    assert one.wait_exit() == 0
    assert "Traceback" not in one.read_log()
