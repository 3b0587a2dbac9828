"""Processes under measurement: servers pinned to one core, load clients to another, and what they
cost.

Only processes that were started here are ever signalled, each is stopped however its block ends,
and every wait has a deadline.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BIN = HERE / "bin"
PROGRAMS = ("echo", "load", "short", "live", "rooms")
TLS_FLAGS = {"load": ["-DTLS", "-lssl", "-lcrypto"]}
"""The flags for TLS of the programs that can do without as well."""
HOST = "127.0.0.1"
BOOT_SECONDS = 20.0
STOP_SECONDS = 10.0
TICKS = os.sysconf("SC_CLK_TCK")

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]

GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
FIRST_WORDS = {
    "tcp": b"ping\n",
    "tls": b"ping\n",
    "text": b"ping\n",
    "frame": b"\0\0\0\x08ping",
    "http": GET + b"\r\n",
    "https": GET + b"\r\n",
    "ws": GET + UPGRADE + b"\r\n",
}


class BenchmarkError(Exception):
    """A server or a load client did not do what the measurement needs. The message says which and
    how."""


def compile_programs() -> None:
    """Compiles the C programs that are missing or older than their source."""
    BIN.mkdir(exist_ok=True)
    for name in PROGRAMS:
        source, program = HERE / f"{name}.c", BIN / name
        if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
            continue
        flags = TLS_FLAGS.get(name, [])
        if flags and compile_program(source, program, flags):
            continue
        if flags:
            print(f"{name} is built without TLS: are OpenSSL's headers here (Debian: libssl-dev)?")
        if not compile_program(source, program, []):
            raise BenchmarkError(f"{source} does not compile")


def compile_program(source: Path, program: Path, flags: list[str]) -> bool:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise BenchmarkError("no C compiler: install gcc")
    command = [compiler, "-O2", "-Wall", "-pthread", "-o", str(program), str(source), *flags]
    return subprocess.run(command, check=False, timeout=120).returncode == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def pinned(cores: Iterable[int]) -> Iterator[None]:
    """Children that are started in this block inherit the cores, and so do theirs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cores))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


def answers(mode: str, port: int, timeout: float = 2.0) -> bool:
    """Whether the server replies to one request. A mere connect proves nothing: the kernel accepts
    for it."""
    try:
        with connect(mode, port, timeout) as connection:
            connection.sendall(FIRST_WORDS[mode])
            return bool(connection.recv(1))
    except OSError:
        return False


def connect(mode: str, port: int, timeout: float) -> socket.socket:
    plain = socket.create_connection((HOST, port), timeout)
    if mode not in ("tls", "https"):
        return plain
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """User plus system time from /proc/PID/stat, all threads.

    Counted in jiffies of 10 ms, so a window of 3 s under full load is exact to 0.3 %.
    /proc/PID/schedstat has ns, but of the main thread only, and not on every kernel.
    """
    ticks = 0
    for process in processes:
        try:
            stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise BenchmarkError(f"process {process.pid} ended while it was measured") from error
        fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def stop_process(process: psutil.Process, seconds: float = STOP_SECONDS) -> None:
    """SIGTERM, then after the deadline SIGKILL, for the process and for what it leaves behind."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [process, *process.children(recursive=True)]
        process.terminate()
        _, alive = psutil.wait_procs([process], seconds)
        _, left = psutil.wait_procs([one for one in family if one not in alive], 1.0)
        for one in {*alive, *left}:
            print(f"  ! process {one.pid} had to be killed")
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


@dataclass
class Server:
    """A server process and its workers, from start to stop: `with Server(...) as server`."""

    name: str
    mode: str
    port: int
    command: list[str]
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    cwd: Path = ROOT
    cores: Sequence[int] = (SERVER_CORE,)
    process: psutil.Popen | None = None

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    @property
    def root(self) -> psutil.Process:
        if self.process is None:
            raise BenchmarkError(f"{self.name} was not started")
        return psutil.Process(self.process.pid)

    def fault(self, what: str) -> BenchmarkError:
        tail = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        return BenchmarkError("\n    ".join([f"{self.name}: {what}", *tail]))

    def __enter__(self) -> Self:
        with pinned(self.cores), self.log.open("wb") as log:
            self.process = psutil.Popen(
                self.command,
                cwd=self.cwd,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while not answers(self.mode, self.port):
            if self.process is not None and self.process.poll() is not None:
                raise self.fault(f"exited with {self.process.returncode} at start")
            if time.monotonic() > deadline:
                raise self.fault(f"no answer within {BOOT_SECONDS:g} s")
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            stop_process(self.process)

    def processes(self) -> list[psutil.Process]:
        """All of them: whatever it takes to serve counts."""
        return [self.root, *self.root.children(recursive=True)]

    def workers(self) -> list[psutil.Process]:
        """The worker processes of a gworker instance."""
        return [child for child in self.root.children(recursive=True) if is_worker(child)]


def is_worker(process: psutil.Process) -> bool:
    try:
        return "gworker: worker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def program(name: str) -> list[str]:
    """A client of our own: compiled, or a script."""
    return [sys.executable, str(HERE / name)] if name.endswith(".py") else [str(BIN / name)]


class Client:
    """A running load or short client, read line by line: `with Client(["load", …]) as client`."""

    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments
        with pinned([LOAD_CORE]):
            self.process = subprocess.Popen(
                [*program(arguments[0]), *arguments[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        self.unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.communicate()

    def fault(self, what: str) -> BenchmarkError:
        self.process.kill()
        complaint = self.process.communicate()[1].decode(errors="replace").strip()
        return BenchmarkError(f"{' '.join(self.arguments)}: {what} {complaint}")

    def read_line(self, seconds: float) -> str:
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self.unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise self.fault(f"said nothing for {seconds:g} s")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise self.fault("failed:")
            self.unread += data
        line, self.unread = self.unread.split(b"\n", 1)
        return line.decode()

    def expect(self, word: str, seconds: float) -> None:
        line = self.read_line(seconds)
        if line != word:
            raise self.fault(f"said {line!r} instead of {word!r}")

    def result(self, seconds: float) -> dict[str, Any]:
        """The JSON line at the end. Whether connections failed is left to the caller: it is in
        there."""
        result: dict[str, Any] = json.loads(self.read_line(seconds))
        return result

    def finish(self) -> None:
        """Ends the load early; `result` comes next."""
        self.process.send_signal(signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured window."""

    cpu_us: float  # CPU time of all processes of the server per message
    load: dict[str, Any]  # what the load client reported


def load_client(server: Server, arguments: Mapping[str, object]) -> Client:
    options = [
        f"--{name}" if value is True else f"--{name}={value}" for name, value in arguments.items()
    ]
    return Client(["load", server.mode, HOST, str(server.port), *options])


def run_load(
    server: Server, arguments: Mapping[str, object], *, seconds: float, warmup: float = 0.3
) -> Sample:
    """One window of load on a running server. Raises BenchmarkError if a connection died."""
    window = {"seconds": seconds, "warmup": warmup}
    with load_client(server, {**arguments, **window}) as client:
        client.expect("ready", 70)
        processes = server.processes()
        client.expect("start", warmup + 10)
        before = cpu_seconds(processes)
        load = client.result(seconds + 20)
        spent = cpu_seconds(processes) - before
        if load["dead"] or load["unfinished"] or not load["messages"]:
            raise client.fault(f"lost connections or messages: {load}")
    return Sample(spent / load["messages"] * 1e6, load)
