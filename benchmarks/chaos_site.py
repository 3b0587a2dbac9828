"""The instance under trial: its start and stop, its deploys, what it says and what is there of
it."""

import compileall
import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
from measure import HERE, ROOT, BenchmarkError, free_port
from subjects import python_path

sys.path.insert(0, str(ROOT))
from gworker.cli import control_client, instances
from gworker.errors import GworkerError

import_module("gworker.master.watchdog")  # see `Site._as_user`

UID = 54321  # no account's: RLIMIT_NPROC counts the processes of a user, and does not hold for root
DESCRIPTORS = 256
BOOT_SECONDS = 60.0
GOOD = (HERE / "chaos_app.py").read_text(encoding="utf-8")
SETTINGS = 'log-level = "info"\n'
COUNTS = {"text": 3, "ws": 2, "http": 1, "local": 1, "spread": 2, "ticker": 1}
FEW = {"text": 2, "http": 1, "ticker": 1}
CLIENTS = {"text": 6, "ws": 4, "http": 3, "local": 2, "spread": 4}
OPTIONS = (
    "--timeout",
    "4",
    "--boot-timeout",
    "10",
    "--graceful-timeout",
    "4",
    "--handshake-timeout",
    "5",
)


class Site:
    """One instance of chaos_app.py in a directory of its own, as a user of its own if that is
    possible."""

    def __init__(self, directory: Path, counts: dict[str, int]) -> None:
        self.directory, self.counts = directory, counts
        self.logs = directory / "logs"
        self.log = self.logs / "log"
        self.runtime = directory / "run"
        self.addresses = {name: str(free_port()) for name in ("text", "ws", "http", "spread")}
        self.addresses["local"] = str(directory / "local.sock")
        self.served = [name for name in self.addresses if name in counts]
        self.unprivileged = os.geteuid() == 0 and shutil.which("setpriv") is not None
        self.mounted = False
        self.process: subprocess.Popen[bytes] | None = None
        self.clients: dict[str, subprocess.Popen[bytes]] = {}
        self._writes = 0

    # ---- start and stop

    def start(self) -> None:
        self.logs.mkdir()
        self.mounted = os.geteuid() == 0 and self._mount()
        compileall.compile_dir(
            str(ROOT / "gworker"), quiet=2
        )  # the instance's user may not be allowed to
        self.deploy(GOOD)
        self.settings(SETTINGS)
        if self.unprivileged:
            self.directory.parent.chmod(0o711)
            for path in (self.directory, self.logs):
                os.chown(path, UID, UID)
        command = [
            *self._prefix(),
            "prlimit",
            f"--nofile={DESCRIPTORS}",
            sys.executable,
            "-m",
            "gworker",
            "app",
            "-c",
            "gworker.toml",
            "--runtime-dir",
            str(self.runtime),
        ]
        environment = os.environ | {
            "PYTHONPATH": python_path(ROOT),
            "CHAOS_PORTS": ",".join(
                f"{name}={port}" for name, port in self.addresses.items() if name != "local"
            ),
            "CHAOS_COUNTS": ",".join(f"{name}={count}" for name, count in self.counts.items()),
            "CHAOS_SOCKET": self.addresses["local"],
        }
        self.process = subprocess.Popen(
            [*command, "--log-file", str(self.log), *OPTIONS],
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        wait(self.is_running, BOOT_SECONDS, "the instance is ready")

    def _prefix(self) -> list[str]:
        """What is run as the instance's user. It may read everything: Python may lie where only
        root can."""
        if not self.unprivileged:
            return []
        identity = [f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
        return [
            "setpriv",
            *identity,
            "--inh-caps=+dac_read_search",
            "--ambient-caps=+dac_read_search",
        ]

    def limit(self, name: str, most: int) -> None:
        """Set a limit of the arbiter, as its own user: for that of another, root may lack
        CAP_SYS_RESOURCE."""
        number = "unlimited" if most == resource.RLIM_INFINITY else str(most)
        command = [*self._prefix(), "prlimit", "--pid", str(self.pid), f"--{name}={number}:"]
        subprocess.run(command, check=True, capture_output=True, timeout=10)

    def _mount(self) -> bool:
        """A small file system for the log, so that it can be filled up."""
        owner = f",uid={UID},gid={UID}" if self.unprivileged else ""
        command = ["mount", "-t", "tmpfs", "-o", f"size=32m{owner}", "tmpfs", str(self.logs)]
        return subprocess.run(command, check=False, capture_output=True, timeout=10).returncode == 0

    def is_running(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise BenchmarkError(f"the arbiter has ended: {self.process.returncode}\n{self.tail()}")
        try:
            return bool(self.status()["state"] == "running")
        except GworkerError:
            return False

    def stop(self) -> int:
        assert self.process is not None
        self.arbiter.terminate()
        return self.process.wait(30)

    def clean_up(self) -> None:
        """End what is left, whatever has happened."""
        for each in self.clients.values():
            each.kill()
            each.wait()
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.logs)], check=False, timeout=10)

    def tail(self, size: int = 3000) -> str:
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""

    def keep_log(self, seed: int) -> Path:
        """Copy the log to where it outlives the trial."""
        kept = Path(tempfile.gettempdir()) / f"gworker-chaos-{seed}.log"
        if self.log.exists():
            shutil.copyfile(self.log, kept)
        return kept

    # ---- clients

    def start_clients(self) -> None:
        for name in self.served:
            address = self.addresses[name]
            command = [
                sys.executable,
                str(HERE / "chaos_client.py"),
                name,
                address,
                str(CLIENTS[name]),
            ]
            self.clients[name] = subprocess.Popen([*command, str(self.directory / f"{name}.json")])
        wait(self.all_are_served, BOOT_SECONDS, "every client is served")

    def seen(self) -> dict[str, list[dict[str, Any]]]:
        """What the clients have seen, by Worker."""
        files = {name: self.directory / f"{name}.json" for name in self.clients}
        return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}

    def all_are_served(self) -> bool:
        seen = self.seen()
        return len(seen) == len(self.served) and not any(
            each["lost"] for rows in seen.values() for each in rows
        )

    # ---- deploys

    def deploy(self, source: str) -> None:
        self._put("app.py", source)

    def settings(self, text: str) -> None:
        self._put("gworker.toml", text)

    def _put(self, name: str, text: str) -> None:
        """In one step, and with a new time: Python takes a .pyc for current if size and second are
        the same."""
        new = self.directory / f"{name}.new"
        new.write_text(text, encoding="utf-8")
        self._writes += 1
        os.utime(new, (time.time(), time.time() - 100_000 + self._writes))
        new.replace(self.directory / name)

    # ---- asking

    @property
    def pid(self) -> int:
        """The arbiter's, as its pid file says."""
        (path,) = self.runtime.glob("*.pid")
        return int(path.read_text())

    @property
    def arbiter(self) -> psutil.Process:
        return psutil.Process(self.pid)

    def connect(self, timeout: float) -> control_client.Connection:
        with self._as_user():
            found = instances.scan([str(self.runtime)])
            if not found:
                raise control_client.ControlError(f"no instance is found: {self._why_none()}")
            return control_client.connect(found[0], timeout)

    def _why_none(self) -> str:
        files = list(self.runtime.glob("*.pid"))
        try:
            return str(
                [(str(file), file.read_text(), instances.master(str(file))) for file in files]
            )
        except (GworkerError, OSError) as error:
            return str(error)

    @contextlib.contextmanager
    def _as_user(self) -> Iterator[None]:
        """A pid file of another user is not believed, so the instance's own user asks.

        That user may be unable to read Python's directory: what is imported as it is refused is
        loaded by then.
        """
        if not self.unprivileged:
            yield
            return
        os.seteuid(UID)
        try:
            yield
        finally:
            os.seteuid(0)

    def ask(
        self, command: str, timeout: float = 30.0, **arguments: Any
    ) -> list[control_client.Reply]:
        with contextlib.closing(self.connect(timeout)) as connection:
            return list(connection.call(command, **arguments))

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.ask("status", timeout=10.0)[0]["status"]
        return status

    def children(self) -> list[psutil.Process]:
        return self.arbiter.children()

    def processes(self) -> list[psutil.Process]:
        """All that runs in the directory, whatever its parent is."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.cwd() == str(self.directory) and process.pid not in {
                    each.pid for each in self.clients.values()
                }:
                    found.append(process)
        return found


def wait(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """The seconds until `condition()`. Raises BenchmarkError after `seconds`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise BenchmarkError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)
    return time.monotonic() - began


def send(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)
