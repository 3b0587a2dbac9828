"""Deploys: what live connections notice of them, and how long they take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from statistics import median
from typing import Any

from cost import Settings, many_connections
from measure import CORES, ROOT, BenchmarkError, Client, Server, pinned, wait_until
from report import Row
from subjects import gworker

RELOADS = 10
PART_BUSY = 6
"""One in so many connections talks, once a second."""

DEPLOYED_WORKERS = 8
SILENCE_MS = 300.0


def command(server: Server, *words: str) -> str:
    """What a gworker command prints for the server's instance. Raises BenchmarkError if it
    fails."""
    arguments = [sys.executable, "-m", "gworker", *words, "--runtime-dir", str(server.directory)]
    environment = os.environ | server.environment
    done = subprocess.run(
        arguments,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise BenchmarkError(f"gworker {' '.join(words)}: {done.stderr}")
    return done.stdout


def handover(settings: Settings) -> list[Row]:
    """Live WebSockets over ten reloads of their one process: which are disconnected, what is lost,
    which have to wait."""
    count = many_connections(settings)
    with (
        pinned(CORES),
        gworker().serve("moving", settings.directory) as server,
        Client(["live", str(server.port), str(count), str(count // PART_BUSY), "1000"]) as client,
    ):
        client.expect("open", 120)
        seconds = [reload_once(server, count) for _ in range(RELOADS)]
        client.finish()
        found = client.result(20)
    told = f"{found['echoed']} of {found['sent']} echoed, silence p50 {found['silence_ms_p50']} ms"
    print(
        f"  {told}, p99 {found['silence_ms_p99']} ms; a reload took {median(seconds):.1f} s",
        flush=True,
    )
    what = f"{count} WebSockets, {count // PART_BUSY} of them talking, {RELOADS} reloads"
    return [
        Row("handover", f"{what}: disconnected", found["disconnected"], "", 0),
        Row(
            "handover",
            f"{what}: messages lost, doubled or out of order",
            found["lost"] + found["wrong"],
            "",
            0,
        ),
        Row("handover", f"{what}: longest silence", found["silence_ms_max"], "ms", SILENCE_MS),
    ]


def reload_once(server: Server, count: int) -> float:
    began = time.monotonic()
    command(server, "reload")
    seconds = time.monotonic() - began
    last: dict[str, Any] = json.loads(command(server, "status", "--json"))["last_reload"]
    if last["handed_over"] != count or last["closed"]:
        raise BenchmarkError(
            f"of {count} connections {last['handed_over']} moved and {last['closed']} were closed"
        )
    return seconds


def deploy(settings: Settings) -> list[Row]:
    """From the command to its exit 0: every process is replaced by one that is ready."""
    with (
        pinned(CORES),
        gworker(workers=DEPLOYED_WORKERS).serve("tcp", settings.directory) as server,
    ):
        ready = json.loads(command(server, "status", "--json"))["workers"]
        wait_until(lambda: len(ready) == DEPLOYED_WORKERS, 5, "all worker processes")
        times = []
        for _ in range(settings.rounds):
            began = time.monotonic()
            command(server, "reload")
            times.append(time.monotonic() - began)
    return [Row("deploy", f"reload of {DEPLOYED_WORKERS} processes", median(times), "s", 4.0)]
