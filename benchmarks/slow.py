"""Section slow: clients that drip their requests, or sip their answers, and what others notice of
them."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator

from cost import Settings
from measure import HERE, LOAD_CORE, BenchmarkError, pinned, wait_until
from report import Row
from subjects import gworker

DRIPS = 5_000
SIPS = 50
CLIENTS = 50
HEADER_TIMEOUT, SEND_TIMEOUT = 10.0, 4.0
"""Seconds; as in apps.py."""


@contextlib.contextmanager
def client(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(HERE / "slow_client.py"), *map(str, arguments)]
    with (
        pinned([LOAD_CORE]),
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def figures(process: subprocess.Popen[str]) -> list[float]:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise BenchmarkError(f"a slow client ended with {process.wait()}")
    return list(json.loads(line))


def wait_ready(process: subprocess.Popen[str]) -> None:
    if process.stdout is None or process.stdout.readline() != "ready\n":
        raise BenchmarkError(f"a slow client ended with {process.wait()}")


def p99(port: int, seconds: float) -> float:
    with client("ask", port, CLIENTS, seconds) as process:
        taken = sorted(figures(process))
    return taken[len(taken) * 99 // 100]


def run(settings: Settings) -> list[Row]:
    with gworker().serve("slow", settings.directory) as server:
        before = p99(server.port, settings.seconds)
        with contextlib.ExitStack() as stack:
            slow = [
                stack.enter_context(client("drip", server.port, DRIPS // 2, 3 * HEADER_TIMEOUT))
                for _ in range(2)
            ]
            for process in slow:
                wait_ready(process)
            (worker,) = server.workers()
            wait_until(lambda: worker.num_fds() > DRIPS, 10.0, "all that drip are accepted")
            during = p99(server.port, settings.seconds)
            dripped = [each for process in slow for each in figures(process)]
        with client("sip", server.port, SIPS, 5 * SEND_TIMEOUT) as process:
            wait_ready(process)
            sipped = figures(process)
    print(
        f"p99 of {CLIENTS} clients: {before:.2f} ms before, {during:.2f} ms beside {DRIPS} that "
        "drip"
    )
    print(
        f"cut: drips after {min(dripped):.1f} to {max(dripped):.1f} s,"
        f" sips after {min(sipped):.1f} to {max(sipped):.1f} s"
    )
    return [
        Row(
            "slow",
            f"{DRIPS} clients that drip: p99 of others, during / before",
            during / before,
            "×",
            2.0,
        ),
        Row("slow", "the last of them is cut after", max(dripped), "s", HEADER_TIMEOUT + 1),
        Row(
            "slow",
            f"{SIPS} clients that sip: the last is cut after",
            max(sipped),
            "s",
            SEND_TIMEOUT * 1.5 + 1,
        ),
    ]
