"""What a message, a connection, a wait costs: a table of workloads, each measured for every subject
that can serve it, in the same rounds as the yardstick."""

import contextlib
import resource
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from measure import (
    HERE,
    SERVER_CORE,
    BenchmarkError,
    Server,
    cpu_seconds,
    load_client,
    pinned,
    run_load,
)
from report import Row, failed, format_value
from subjects import YARDSTICK, Subject

SPARE_DESCRIPTORS = 500
EVERY_TURN = 2.0  # seconds of warm-up in which each of very many connections has had its turn
SETTLE_SECONDS = 1.0  # for a process to come to rest before its memory is read
IDLE_TLS, WARM = 2_000, 500
LARGE = 65_536
REQUESTS = HERE / "requests"

Load = Mapping[str, object]
"""Options of the load client."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure: rounds whose median counts, seconds per window, connections of the large
    sections; `python` is the interpreter of gworker."""

    rounds: int
    seconds: float
    many: int
    idle: int
    directory: Path  # private to this run
    python: str
    reloads: int = 200
    seed: int = 1
    chaos: float = 600.0


def many_connections(settings: Settings) -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS
    if limit < settings.many:
        print(f"  - only {limit} connections: the descriptor limit allows no more")
    return min(settings.many, limit)


# What is measured of a running server under a load. Values by the name of the figure, which is
# empty where there is one only.


def processor_time(settings: Settings, server: Server, load: Load) -> dict[str, float]:
    """Microseconds per message, of all processes of the server."""
    return {"": run_load(server, load, seconds=settings.seconds).cpu_us}


def growth(settings: Settings, server: Server, load: Load) -> dict[str, float]:
    """Processor time per message with 100 messages in flight over very many connections, divided
    by the same over 100."""
    few, many = (
        run_load(
            server,
            {**load, "connections": count, "inflight": 100},
            seconds=settings.seconds,
            warmup=EVERY_TURN,
        ).cpu_us
        for count in (100, many_connections(settings))
    )
    return {"": many / few}


def latency(settings: Settings, server: Server, load: Load) -> dict[str, float]:
    """Round trips in microseconds."""
    found = run_load(server, load, seconds=settings.seconds).load
    return {"p50": found["p50_us"], "p99": found["p99_us"]}


def idle_memory(settings: Settings, server: Server, load: Load) -> dict[str, float]:
    """Bytes by which the RSS of all processes grows for each connection that is open and idle, when
    some are already: what the first ones cause to be loaded, and to be taken for handshakes at the
    same time, is no one's."""
    count = IDLE_TLS if server.mode == "tls" else settings.idle
    with hold_open(server, load, WARM):
        empty = rss(server)
        with hold_open(server, load, count):
            full = rss(server)
    return {"": (full - empty) / count}


@contextlib.contextmanager
def hold_open(server: Server, load: Load, count: int) -> Iterator[None]:
    with load_client(server, {**load, "connections": count, "seconds": 60}) as client:
        client.expect("ready", 70)
        client.expect("start", 5)
        time.sleep(SETTLE_SECONDS)
        yield
        client.finish()
        if client.result(10)["dead"]:
            raise client.fault("idle connections died")


def rss(server: Server) -> int:
    return sum(process.memory_info().rss for process in server.processes())


def opening(settings: Settings, server: Server, load: Load) -> dict[str, float]:
    """Processor time in microseconds for each connection that opens, its handshake included."""
    count = IDLE_TLS // 2
    before = cpu_seconds(server.processes())
    with load_client(server, {**load, "connections": count, "seconds": 60}) as client:
        client.expect("ready", 70)
        spent = cpu_seconds(server.processes()) - before
    return {"": spent / count * 1e6}


def json_time(settings: Settings) -> float:
    """Microseconds for json.loads and json.dumps of the document that the row json posts."""
    setup = (
        "import json, pathlib; "
        f"text = pathlib.Path({str(DOCUMENT['request'])!r}).read_text(); "
        "body = text.partition('\\n\\n')[2].encode()"
    )
    command = [settings.python, "-m", "timeit", "-p", "-u", "usec", "-s", setup]
    with pinned([SERVER_CORE]):
        done = subprocess.run(
            [*command, "json.dumps(json.loads(body)).encode()"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    return float(done.stdout.split(":")[1].split()[0])


@dataclass(frozen=True, slots=True)
class Workload:
    """One row. The figures of each subject are divided by those that the yardstick has in the same
    round under `yardstick`, a load of its own; None is not at all."""

    name: str
    service: str
    load: Load = field(default_factory=dict)
    measure: Callable[[Settings, Server, Load], dict[str, float]] = processor_time
    yardstick: Load | None = field(default_factory=dict)
    unit: str = "µs"
    target: float | None = None
    peers: bool = True
    beside: tuple[str, Callable[[Settings], float]] | None = None  # another figure of the round


HOLD: Load = {"hold": True}
USED: Load = {"hold": True, "count": 1}
HELLO: Load = {"request": REQUESTS / "hello.http"}
BROWSER: Load = {"request": REQUESTS / "browser.http"}
DOCUMENT: Load = {"request": REQUESTS / "document.http"}
UPLOAD: Load = {"request": REQUESTS / "upload.http", "size": 1_000_000, "connections": 10}
LARGE_MESSAGES: Load = {"size": LARGE, "connections": 10}
ONE_MESSAGE: Load = {"inflight": 1}

WORKLOADS = (
    Workload("tcp", "tcp", target=1.2),
    Workload("text", "text", target=1.2),
    Workload("frame", "frame", target=1.2),
    Workload("ws", "ws", target=1.2),
    Workload("http", "hello", HELLO, target=1.35),
    Workload("browser", "hello", BROWSER, target=1.6),
    Workload("browser-read", "read", BROWSER, target=3.0),
    Workload("browser-respond", "respond", BROWSER, target=2.0),
    Workload("wsgi", "wsgi", HELLO, target=2.0),
    Workload("wsgi-browser", "wsgi", BROWSER),
    Workload("json", "document", DOCUMENT, beside=("json.loads + json.dumps", json_time)),
    Workload("upload", "upload", UPLOAD),
    Workload("https", "https", HELLO, target=3.5),
    Workload("text-8", "text", {"depth": 8}),
    Workload("ws-8", "ws", {"depth": 8}),
    Workload("ws-64k", "ws", LARGE_MESSAGES, yardstick=LARGE_MESSAGES, target=1.6),
    Workload("many", "ws", measure=growth, unit="×", target=1.15, peers=False),
    Workload("idle-ws", "ws", HOLD, idle_memory, yardstick=None, unit="bytes", target=800),
    Workload("idle-tls", "tls", USED, idle_memory, yardstick=None, unit="bytes", target=14_000),
    Workload("handshake", "tls", HOLD, opening, yardstick=None),
    Workload("latency-tcp", "tcp", ONE_MESSAGE, latency, yardstick=ONE_MESSAGE),
    Workload("latency-http", "hello", {**HELLO, **ONE_MESSAGE}, latency, yardstick=ONE_MESSAGE),
    Workload("latency-sleep", "sleepy", {**HELLO, "except": 100}, latency),
)


@dataclass
class Figures:
    """The values of one row over the rounds. A subject that failed once is not measured again."""

    workload: Workload
    values: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    ratios: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: dict[str, Row] = field(default_factory=dict)

    def add(self, name: str, found: Mapping[str, float], base: Mapping[str, float]) -> None:
        for figure, value in found.items():
            told = f"{format_value(value)} {self.workload.unit}"
            self.values[name, figure].append(value)
            if base_value := base.get(figure):
                self.ratios[name, figure].append(value / base_value)
                told += f"  {value / base_value:.2f} ×"
            print(f"  {f'{name} {figure}':24} {told}", flush=True)

    def rows(self) -> list[Row]:
        rows = [self.row(*key) for key in self.values]
        return [*rows, *self.failures.values()]

    def row(self, name: str, figure: str) -> Row:
        work, values = self.workload, self.values[name, figure]
        ratios = self.ratios.get((name, figure))
        shown = ratios or values
        return Row(
            work.name,
            f"{name} {figure}".strip(),
            median(shown),
            "×" if ratios else work.unit,
            work.target if name == "gworker" else None,
            spread=(min(shown), max(shown)) if len(shown) > 1 else None,
            note=f"{format_value(median(values))} {work.unit}" if ratios else "",
        )


def run(settings: Settings, workload: Workload, subjects: Sequence[Subject]) -> list[Row]:
    """One row: rounds of the yardstick and every subject, close in time, so that a busy machine
    hits them alike."""
    figures = Figures(workload)
    able = [subject for subject in subjects if subject.serves(workload.service)]
    for number in range(settings.rounds):
        print(f"round {number + 1} of {settings.rounds}", flush=True)
        base: dict[str, float] = {}
        if workload.yardstick is not None:
            base = measure(settings, workload, YARDSTICK, "tcp", workload.yardstick)
            figures.add(YARDSTICK.name, base, {})
        if workload.beside:
            name, measure_beside = workload.beside
            figures.add(name, {"": measure_beside(settings)}, base)
        for subject in able:
            if subject.name in figures.failures:
                continue
            try:
                found = measure(settings, workload, subject, workload.service, workload.load)
            except BenchmarkError as error:
                figures.failures[subject.name] = failed(workload.name, subject.name, error)
                continue
            figures.add(subject.name, found, base)
    return figures.rows()


def measure(
    settings: Settings, workload: Workload, subject: Subject, service: str, load: Load
) -> dict[str, float]:
    with subject.serve(service, settings.directory) as server:
        return workload.measure(settings, server, load)
