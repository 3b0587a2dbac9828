"""Sections about the cost of a message: messages, peers, many, latency."""

import resource
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from measure import BenchmarkError, Sample, run_load
from report import Row, failed
from subjects import YARDSTICK, Subject, gworker

SPARE_DESCRIPTORS = 500
EVERY_TURN = 2.0  # seconds of warm-up in which each of very many connections has had its turn


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure: rounds whose median counts, seconds per window, connections of the large
    sections."""

    rounds: int
    seconds: float
    many: int
    idle: int
    directory: Path  # private to this run
    reloads: int = 200
    seed: int = 1
    chaos: float = 600.0


@dataclass
class Samples:
    """Figures by name over the rounds. A name that failed once is not measured again."""

    section: str
    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: dict[str, Row] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.values[name].append(value)

    def fail(self, name: str, error: Exception) -> None:
        self.failures[name] = failed(self.section, name, error)

    def row(self, name: str, unit: str, target: float | None = None) -> Row | None:
        return (
            Row(self.section, name, median(self.values[name]), unit, target)
            if self.values[name]
            else None
        )


def available(subjects: Iterable[Subject]) -> list[Subject]:
    for subject in subjects:
        if not subject.installed:
            print(f"  - {subject.name}: {subject.needs} is not installed, left out")
    return [subject for subject in subjects if subject.installed]


def measure(settings: Settings, subject: Subject, **load: int) -> Sample:
    with subject.serve(settings.directory) as server:
        return run_load(server, load, seconds=settings.seconds)


def measure_messages(settings: Settings, subjects: Sequence[Subject], samples: Samples) -> None:
    """One round: the yardstick, then every subject, close in time, so that a busy machine hits them
    alike."""
    yardstick = measure(settings, YARDSTICK).cpu_us
    samples.add(YARDSTICK.name, yardstick)
    print(f"  {YARDSTICK.name:24} {yardstick:8.2f} µs", flush=True)
    for subject in subjects:
        if subject.name in samples.failures:
            continue
        try:
            sample = measure(settings, subject)
        except BenchmarkError as error:
            samples.fail(subject.name, error)
            continue
        samples.add(subject.name, sample.cpu_us)
        samples.add(ratio_name(subject), sample.cpu_us / yardstick)
        print(
            f"  {subject.name:24} {sample.cpu_us:8.2f} µs  {sample.cpu_us / yardstick:6.2f} ×"
            f"  {sample.load['rate']:8.0f}/s  p50 {sample.load['p50_us']} µs  p99 "
            f"{sample.load['p99_us']} µs",
            flush=True,
        )


def ratio_name(subject: Subject) -> str:
    return f"{subject.name} / {YARDSTICK.name}"


def messages(settings: Settings, subjects: Sequence[Subject]) -> list[Row]:
    """CPU per 64-byte message, 100 connections with one message in flight each."""
    samples = Samples("messages")
    subjects = available(subjects)
    for number in range(settings.rounds):
        print(f"round {number + 1} of {settings.rounds}", flush=True)
        measure_messages(settings, subjects, samples)
    rows = [samples.row(YARDSTICK.name, "µs/message")]
    for subject in subjects:
        rows.append(samples.row(subject.name, "µs/message"))
        rows.append(
            samples.failures.get(subject.name)
            or samples.row(ratio_name(subject), "×", subject.target)
        )
    return [row for row in rows if row]


LARGE = 65536


def large(settings: Settings) -> list[Row]:
    """CPU per message of 64 KiB, 10 connections with one message in flight each."""
    samples = Samples("large")
    subject = gworker("ws", 1.6)
    for _ in range(settings.rounds):
        yardstick = measure(settings, YARDSTICK, connections=10, size=LARGE).cpu_us
        try:
            sample = measure(settings, subject, connections=10, size=LARGE)
        except BenchmarkError as error:
            return [failed("large", subject.name, error)]
        samples.add(YARDSTICK.name, yardstick)
        samples.add(subject.name, sample.cpu_us)
        samples.add(ratio_name(subject), sample.cpu_us / yardstick)
        print(
            f"  {yardstick:8.2f} µs {sample.cpu_us:8.2f} µs  {sample.cpu_us / yardstick:6.2f} ×",
            flush=True,
        )
    rows = [samples.row(name, "µs/message") for name in (YARDSTICK.name, subject.name)]
    return [row for row in (*rows, samples.row(ratio_name(subject), "×", subject.target)) if row]


def many_connections(settings: Settings) -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS
    if limit < settings.many:
        print(f"  - only {limit} connections: the descriptor limit allows no more")
    return min(settings.many, limit)


def many(settings: Settings) -> list[Row]:
    """CPU per message with 100 messages in flight, spread over 100 and over very many
    connections."""
    samples = Samples("many")
    count = many_connections(settings)
    subjects = (YARDSTICK, gworker("ws", 1.3))
    for _ in range(settings.rounds):
        for subject in subjects:
            if subject.name not in samples.failures:
                measure_many(settings, subject, count, samples)
    rows: list[Row | None] = []
    for subject in subjects:
        rows += [
            samples.row(f"{subject.name}, {number} connections", "µs/message")
            for number in (100, count)
        ]
        rows.append(
            samples.failures.get(subject.name)
            or samples.row(f"{subject.name}, {count} / 100", "×", subject.target)
        )
    return [row for row in rows if row]


def measure_many(settings: Settings, subject: Subject, count: int, samples: Samples) -> None:
    try:
        with subject.serve(settings.directory) as server:
            few, lots = (
                run_load(
                    server,
                    {"connections": number, "inflight": 100},
                    seconds=settings.seconds,
                    warmup=EVERY_TURN,
                )
                for number in (100, count)
            )
    except BenchmarkError as error:
        samples.fail(subject.name, error)
        return
    samples.add(f"{subject.name}, 100 connections", few.cpu_us)
    samples.add(f"{subject.name}, {count} connections", lots.cpu_us)
    samples.add(f"{subject.name}, {count} / 100", lots.cpu_us / few.cpu_us)
    print(
        f"  {subject.name:24} 100: {few.cpu_us:.2f} µs  {count}: {lots.cpu_us:.2f} µs", flush=True
    )


def latency(settings: Settings, subjects: Sequence[Subject]) -> list[Row]:
    """Round trip of a single message at a time, over 100 connections in turn. A busy machine
    shows."""
    samples = Samples("latency")
    subjects = available([YARDSTICK, *subjects])
    for _ in range(settings.rounds):
        for subject in subjects:
            if subject.name not in samples.failures:
                measure_latency(settings, subject, samples)
    rows: list[Row | None] = []
    for subject in subjects:
        rows += [
            samples.row(f"{subject.name} {quantile}", "µs") for quantile in ("p50", "p99", "p999")
        ]
    return [row for row in rows if row] + list(samples.failures.values())


def measure_latency(settings: Settings, subject: Subject, samples: Samples) -> None:
    try:
        load = measure(settings, subject, inflight=1).load
    except BenchmarkError as error:
        samples.fail(subject.name, error)
        return
    for quantile in ("p50", "p99", "p999"):
        samples.add(f"{subject.name} {quantile}", load[f"{quantile}_us"])
    print(
        f"  {subject.name:24} p50 {load['p50_us']}  p99 {load['p99_us']}  p999 "
        f"{load['p999_us']} µs",
        flush=True,
    )
