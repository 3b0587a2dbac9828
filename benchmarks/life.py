"""Sections about processes: sleep, process, balance, broadcast, reload."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from cost import SETTLE_SECONDS, Settings
from measure import (
    CORES,
    HOST,
    ROOT,
    Client,
    Server,
    answers,
    load_client,
    pinned,
    run_load,
    stop_process,
    wait_until,
)
from report import Row
from subjects import CROWD, SOCKET, gworker

MB = 1e6
DAEMON_WORKERS = 8
BALANCE_WORKERS, BALANCE_CLIENTS, BALANCE_CONNECTIONS = 4, 4, 10_000
RELOAD_WORKERS = 2
BROADCASTS, BROADCAST_FRAME = 5, 102
WARM_RELOADS = 3  # after which the arbiter's memory is read for the first time


def only_worker(server: Server) -> psutil.Process:
    workers = server.workers()
    if len(workers) != 1:
        raise server.fault(f"{len(workers)} processes serve where one was expected")
    return workers[0]


def sleep(settings: Settings) -> list[Row]:
    """Handlers that block: 200 connections of one process, each handler sleeps 0.5 s."""
    with gworker().serve("sleeper", settings.directory) as server:
        sample = run_load(server, {"connections": 200, "count": 1}, seconds=10, warmup=0)
    return [
        Row(
            "sleep",
            "200 handlers sleep 0.5 s each: all answered after",
            sample.load["seconds"],
            "s",
            1.0,
        )
    ]


def process(settings: Settings) -> list[Row]:
    """Memory of the processes, how soon they are ready, how soon one that was killed is
    replaced."""
    with gworker().serve("tcp", settings.directory) as server:
        time.sleep(SETTLE_SECONDS)
        arbiter = server.root.memory_info().rss
        worker = only_worker(server).memory_full_info().uss
        replaced = median(time_replacement(server) for _ in range(settings.rounds))
    started = median(time_daemon(settings) for _ in range(settings.rounds))
    return [
        Row("process", "arbiter, RSS", arbiter / MB, "MB", 25),
        Row("process", "idle worker process, USS", worker / MB, "MB", 25),
        Row("process", f"start -w {DAEMON_WORKERS} --daemon: ready after", started, "s", 2.0),
        Row("process", "worker killed: replacement answers after", replaced, "s", 0.7),
    ]


def time_replacement(server: Server) -> float:
    victim = only_worker(server)
    started = time.monotonic()
    victim.kill()
    wait_until(
        lambda: answers(server.mode, server.port, 10), 15, "an answer after a worker was killed"
    )
    seconds = time.monotonic() - started
    wait_until(lambda: not victim.is_running(), 5, "the end of the killed worker")
    if victim.pid in {worker.pid for worker in server.workers()}:
        raise server.fault("the killed worker is still there")
    time.sleep(SETTLE_SECONDS)
    return seconds


def time_daemon(settings: Settings) -> float:
    """From exec of the start command to its exit 0, on all cores, as an operator sees it."""
    server = gworker(workers=DAEMON_WORKERS).serve("tcp", settings.directory)
    pid_file = server.directory / "pid"
    log_file = server.directory / "daemon.log"
    server.command += ["--daemon", "--pid", str(pid_file), "--log-file", str(log_file)]
    with pinned(CORES), stopping(pid_file):
        started = time.monotonic()
        code = run_command(server)
        seconds = time.monotonic() - started
        if code != 0:
            raise server.fault(f"--daemon exited with {code}")
        children = psutil.Process(int(pid_file.read_text(encoding="utf-8"))).children()
        if len(children) < DAEMON_WORKERS or not answers(server.mode, server.port):
            raise server.fault(
                f"--daemon returned before the {DAEMON_WORKERS} worker processes were ready"
            )
    return seconds


def run_command(server: Server) -> int:
    environment = os.environ | server.environment
    with server.log.open("wb") as log:
        done = subprocess.run(
            server.command,
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
            timeout=30,
            check=False,
        )
    return done.returncode


@contextlib.contextmanager
def stopping(pid_file: Path) -> Iterator[None]:
    """Stops the daemon of this pid file, which lies in a directory of our own, however the block
    ends."""
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
            stop_process(psutil.Process(int(pid_file.read_text(encoding="utf-8"))))


def balance(settings: Settings) -> list[Row]:
    """Connections that stay, opened by several clients at once, over processes that share one
    listener."""
    each = BALANCE_CONNECTIONS // BALANCE_CLIENTS
    with (
        gworker(workers=BALANCE_WORKERS).serve("tcp", settings.directory) as server,
        contextlib.ExitStack() as stack,
    ):
        wait_until(
            lambda: len(processes(server)) == BALANCE_WORKERS, 20, "all worker processes are ready"
        )
        load = {"connections": each, "hold": True, "seconds": 60}
        clients = [stack.enter_context(load_client(server, load)) for _ in range(BALANCE_CLIENTS)]
        for client in clients:
            client.expect("ready", 70)
        wait_until(
            lambda: sum(processes(server)) == BALANCE_CONNECTIONS,
            20,
            "all connections are accepted",
        )
        counts = processes(server)
        for client in clients:
            client.finish()
    what = f"{BALANCE_CONNECTIONS} connections over {BALANCE_WORKERS} processes"
    print(f"  {what}: {counts}", flush=True)
    return [Row("balance", f"{what}: most / fewest", max(counts) / min(counts), "×", 1.1)]


def processes(server: Server) -> list[int]:
    """How many connections each process that is ready has."""
    command = [
        sys.executable,
        "-m",
        "gworker",
        "status",
        "--json",
        "--runtime-dir",
        str(server.directory),
    ]
    environment = os.environ | server.environment
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, timeout=30, check=True
    )
    rows = json.loads(done.stdout)["workers"]
    return [row["connections"] for row in rows if row["state"] in ("ready", "busy")]


def reload(settings: Settings) -> list[Row]:
    """SIGHUP again and again under short connections: none may be refused, reset or cut short, and
    nothing piles up."""
    rows = []
    for mode, service in (("tcp", "tcp"), ("http", "hello"), ("unix", "both")):
        with gworker(workers=RELOAD_WORKERS).serve(service, settings.directory) as server:
            result, before, after = measure_reloads(server, mode, settings.reloads)
        other = result["timed_out"] + result["wrong"] + result["other"]
        rows += [
            Row(
                "reload",
                f"{mode}: connections answered in {settings.reloads} reloads",
                result["answered"],
                "",
            ),
            Row("reload", f"{mode}: slowest of them", result["slowest_ms"], "ms"),
            Row("reload", f"{mode}: refused", result["refused"], "", 0),
            Row("reload", f"{mode}: reset", result["reset"], "", 0),
            Row("reload", f"{mode}: closed without the whole reply", result["cut"], "", 0),
            Row("reload", f"{mode}: failed otherwise", other, "", 0),
            Row(
                "reload",
                f"{mode}: growth of the arbiter's RSS",
                (after.rss - before.rss) / MB,
                "MB",
                2,
            ),
            Row(
                "reload",
                f"{mode}: growth of its shared memory",
                (after.shared - before.shared) / MB,
                "MB",
                0,
            ),
            Row(
                "reload", f"{mode}: descriptors more", after.descriptors - before.descriptors, "", 0
            ),
        ]
    return rows


@dataclass(frozen=True, slots=True)
class Holding:
    """What an arbiter holds: bytes and descriptors."""

    rss: int
    shared: int
    descriptors: int


def holding(arbiter: psutil.Process) -> Holding:
    memory = arbiter.memory_info()
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{arbiter.pid}/status").read_text().splitlines()
    )
    return Holding(memory.rss, int(fields["RssShmem"].split()[0]) * 1024, arbiter.num_fds())


def measure_reloads(
    server: Server, mode: str, reloads: int
) -> tuple[dict[str, Any], Holding, Holding]:
    count = 2 * RELOAD_WORKERS if mode == "unix" else RELOAD_WORKERS
    wait_until(lambda: len(server.workers()) == count, 20, "all worker processes")
    address = [str(server.directory / SOCKET)] if mode == "unix" else [HOST, str(server.port)]
    before = holding(server.root)
    with Client(["short", mode, *address, "-l", "6", "-t", str(60 * reloads)]) as client:
        client.expect("ready", 10)
        for number in range(1, reloads + 1):
            old = {worker.pid for worker in server.workers()}
            server.root.send_signal(signal.SIGHUP)
            wait_until(
                partial(all_replaced, server, old, count), 60, f"reload {number} of {reloads}"
            )
            if number == min(WARM_RELOADS, reloads):
                before = holding(server.root)
            if number % 20 == 0 or number == reloads:
                print(f"  reload {number} of {reloads} ({mode}) done", flush=True)
        client.finish()
        result = client.result(20)
    return result, before, holding(server.root)


def all_replaced(server: Server, before: set[int], count: int) -> bool:
    now = {worker.pid for worker in server.workers()}
    return len(now) == count and not now & before


def broadcast(settings: Settings) -> list[Row]:
    """One message to very many connections of one process: time from the call to the last send."""
    what = f"one message to {CROWD} connections"
    with (
        gworker().serve("crowd", settings.directory) as server,
        Client(["crowd.py", str(server.port), str(CROWD)]) as client,
    ):
        client.expect("ready", 120)
        times = server.directory / "broadcasts"
        wait_until(
            lambda: times.exists() and len(times.read_text().split()) >= BROADCASTS,
            60,
            "all broadcasts",
        )
        time.sleep(SETTLE_SECONDS)
        client.finish()
        result = client.result(20)
        took = [float(each) for each in times.read_text().split()]
    print(f"  {what}: {took} ms", flush=True)
    missing = CROWD * BROADCASTS * BROADCAST_FRAME - result["bytes"]
    return [
        Row("broadcast", f"{what}: the last send after", median(took), "ms", 150),
        Row("broadcast", "bytes that did not arrive", missing, "", 0),
    ]
