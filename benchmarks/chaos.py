"""The chaos trial: everything goes wrong at random for minutes, and afterwards nothing may be
amiss.

    python benchmarks/chaos.py [--seconds N] [--seed S] [--every N] [--few]

Exits 1 if anything was. The same seed makes the same choices, though not at the same moments. What
is done and what must hold stands in README.md beside this file.
"""

import argparse
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from chaos_client import Ended, Talk
from chaos_monkey import Monkey
from chaos_site import COUNTS, FEW, Site, wait
from measure import BenchmarkError
from report import Row, print_table

from gworker.errors import GworkerError

SETTLE_SECONDS = 120.0
SERVED_SECONDS = (
    30.0  # a client that has lost its connection is served again, in the middle of it all
)
MORE_DESCRIPTORS, MORE_MEMORY = 4, 4e6
PACE = (0.0, 1.0)  # seconds between two deeds


class Trial:
    """One run. `faults` are what was amiss."""

    def __init__(
        self, directory: Path, seconds: float, seed: int, every: float, counts: dict[str, int]
    ) -> None:
        self.site = Site(directory, counts)
        self.thorough = counts is COUNTS
        self.monkey = Monkey(self.site, seed, spare=min(8.0, every / 3))
        self.pause = random.Random(seed)
        self.seconds, self.every = seconds, every
        self.faults: list[str] = []
        self.settled: list[float] = []
        """Seconds until all was in order again, after each spell."""
        self.pid = self.descriptors = 0
        self.memory = 0
        self.growth = 0.0

    def run(self) -> None:
        self.site.start()
        self.site.start_clients()
        self.pid = self.site.pid
        self.check(first=True)
        left = self.seconds
        while left > 0 and not self.faults:
            self.spell(time.monotonic() + min(left, self.every))
            left -= self.every
            self.check()
        self.check_stop()

    def spell(self, end: float) -> None:
        while time.monotonic() < end:
            self.monkey.act()
            time.sleep(self.pause.uniform(*PACE))
            self.monkey.tidy()
            self.expect(self.alive(), "the arbiter has ended")
            if self.faults:
                return

    def expect(self, good: bool, fault: str) -> None:
        if not good:
            print(f"  ! {fault}", flush=True)
            self.faults.append(fault)

    def alive(self) -> bool:
        assert self.site.process is not None
        return self.site.process.poll() is None

    # ---- what must hold

    def check(self, first: bool = False) -> None:
        """Undo what was done, ask for the numbers that are to run, reload, and look at
        everything."""
        self.monkey.note("calm")
        self.monkey.calm()
        try:
            began = time.monotonic()
            wait(self.is_quiet, SETTLE_SECONDS, f"no reload goes on: {self.missing()}")
            if self.thorough or not first:
                self.restore_counts()
                self.reload()
            wait(lambda: not self.missing(), SETTLE_SECONDS, f"in order: {self.missing()}")
            wait(self.site.all_are_served, SERVED_SECONDS, "every client is served again")
            self.settled.append(time.monotonic() - began)
            if self.thorough:
                self.check_quiet_reload()
            self.check_listeners()
        except (BenchmarkError, GworkerError, OSError, psutil.Error) as error:
            self.expect(False, f"{error} ({self.missing()})")
            return
        self.check_clients()
        self.check_arbiter(first)

    def restore_counts(self) -> None:
        """What the trial has scaled; a Worker that a deploy has left out is there again by the next
        reload."""
        known = {row["worker"] for row in self.site.status()["workers"]}
        if not known >= self.site.counts.keys():
            self.reload()
        for name, count in self.site.counts.items():
            last = self.site.ask("scale", timeout=SETTLE_SECONDS, worker=name, count=count)[-1]
            self.expect(last["exit"] == 0, f"scale {name} {count} is refused: {last.get('error')}")

    def is_quiet(self) -> bool:
        return self.alive() and bool(self.site.status()["state"] == "running")

    def reload(self) -> None:
        last = self.site.ask("reload", timeout=SETTLE_SECONDS)[-1]
        self.expect(last["exit"] == 0, f"a reload of what is good is refused: {last.get('error')}")

    def missing(self) -> str:
        """What is not as it should be; empty if all is."""
        try:
            status = self.site.status()
            children = {child.pid: child.status() for child in self.site.children()}
        except (GworkerError, psutil.Error, ValueError) as error:
            return f"{type(error).__name__}: {error}"
        ready: dict[str, int] = dict.fromkeys(self.site.counts, 0)
        others = [
            row
            for row in status["workers"]
            if row["state"] != "ready" or row["generation"] != status["generation"]
        ]
        for row in status["workers"]:
            ready[row["worker"]] = ready.get(row["worker"], 0) + (row["state"] == "ready")
        unknown = set(children) - {row["pid"] for row in status["workers"]}
        zombies = [pid for pid, state in children.items() if state == psutil.STATUS_ZOMBIE]
        found: dict[str, Any] = {
            "state": status["state"] != "running" and status["state"],
            "others": others,
            "zombies": zombies,
        }
        found |= {"unknown children": unknown, "counts": ready != self.site.counts and ready}
        return ", ".join(f"{what}: {value}" for what, value in found.items() if value)

    def check_quiet_reload(self) -> None:
        """A reload in peace disconnects no client of the Workers that hand over."""
        before = self.ends()
        self.reload()
        wait(
            lambda: not self.missing(), SETTLE_SECONDS, f"in order after a reload: {self.missing()}"
        )
        wait(self.site.all_are_served, SERVED_SECONDS, "every client is served after a reload")
        time.sleep(1.0)
        self.expect(
            self.ends() == before,
            f"a reload ended connections that are handed over: {before} → {self.ends()}",
        )

    def ends(self) -> dict[str, int]:
        seen = self.site.seen()
        return {
            name: sum(each["ends"] for each in seen[name])
            for name in ("text", "ws")
            if name in seen
        }

    def check_listeners(self) -> None:
        for name in self.site.served:
            address = self.site.addresses[name]
            for _ in range(3):
                try:
                    talk = Talk(name, address)
                    talk.send(range(1, 2))
                    answer = talk.receive()
                    talk.socket.close()
                except Ended:
                    answer = "nothing"
                self.expect(answer == "1 1", f"a new client of {name} gets {answer}")

    def check_clients(self) -> None:
        for name, rows in self.site.seen().items():
            for each in rows:
                for fault in each["wrong"]:
                    self.expect(False, f"{name}: {fault}")
                longest = max(each["longest"], each["lost"])
                self.expect(
                    longest <= SERVED_SECONDS,
                    f"{name}: a client was not served for {longest:.1f} s",
                )

    def check_arbiter(self, first: bool) -> None:
        self.expect(
            self.site.pid == self.pid, f"the arbiter is another: {self.pid} → {self.site.pid}"
        )
        arbiter = self.site.arbiter
        descriptors, memory = arbiter.num_fds(), arbiter.memory_info().rss
        if first:
            self.descriptors, self.memory = descriptors, memory
        more = f"{self.descriptors} → {descriptors}"
        self.expect(
            descriptors <= self.descriptors + MORE_DESCRIPTORS, f"the arbiter's descriptors: {more}"
        )
        self.growth = memory - self.memory
        self.expect(
            self.growth <= MORE_MEMORY, f"the arbiter has grown by {self.growth / 1e6:.1f} MB"
        )
        members = {process.pid for process in self.site.processes()}
        family = {self.pid} | {child.pid for child in arbiter.children(recursive=True)}
        self.expect(
            members <= family, f"processes that have lost their arbiter: {members - family}"
        )
        self.monkey.note(f"in order: {descriptors} descriptors, {memory / 1e6:.1f} MB")

    def check_stop(self) -> None:
        if not self.alive():
            return
        code = self.site.stop()
        self.expect(code == 0, f"the instance has ended with {code}")
        left = self.site.processes()
        self.expect(not left, f"left behind: {left}")
        files = (
            sorted(path.name for path in self.site.runtime.iterdir())
            if self.site.runtime.exists()
            else []
        )
        self.expect(not files, f"files left behind: {files}")

    # ---- figures

    def rows(self, seed: int) -> list[Row]:
        seen = [each for rows in self.site.seen().values() for each in rows]
        return [
            Row("chaos", f"deeds (seed {seed})", sum(self.monkey.deeds.values()), ""),
            Row(
                "chaos",
                "messages answered, each once and in order",
                sum(each["messages"] for each in seen),
                "",
            ),
            Row("chaos", "connections ended", sum(each["ends"] for each in seen), ""),
            Row(
                "chaos",
                "longest time without service",
                max((e["longest"] for e in seen), default=0),
                "s",
                SERVED_SECONDS,
            ),
            Row(
                "chaos",
                "longest time until all was in order",
                max(self.settled, default=0),
                "s",
                SETTLE_SECONDS,
            ),
            Row("chaos", "growth of the arbiter's RSS", self.growth / 1e6, "MB", MORE_MEMORY / 1e6),
            Row("chaos", "faults", len(self.faults), "", 0),
        ]


def run(
    directory: Path, seconds: float = 600, seed: int = 1, every: float = 30, few: bool = False
) -> list[Row]:
    """The section `chaos`."""
    directory = directory / "chaos"
    directory.mkdir()
    trial = Trial(directory, seconds, seed, every, FEW if few else COUNTS)
    print(f"  seed {seed}, {seconds:g} s, in {directory}", flush=True)
    try:
        try:
            trial.run()
        except (BenchmarkError, GworkerError, psutil.Error) as error:
            trial.expect(False, str(error))
        if trial.faults:
            print(trial.site.tail(), flush=True)
            print(f"  the whole log: {trial.site.keep_log(seed)}", flush=True)
        print(
            "  "
            + ", ".join(f"{kind}: {count}" for kind, count in trial.monkey.deeds.most_common()),
            flush=True,
        )
        return trial.rows(seed)
    finally:
        trial.site.clean_up()


def on_sigterm(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Breaks things at random around an instance of gworker."
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default 600)")
    parser.add_argument(
        "--seed",
        type=int,
        default=random.randrange(1, 10**6),
        help="of what is drawn (default: any)",
    )
    parser.add_argument(
        "--every",
        type=float,
        default=30.0,
        help="seconds between two looks at everything (default 30)",
    )
    parser.add_argument(
        "--few", action="store_true", help="fewer processes, fewer looks: for a quick run"
    )
    parser.add_argument(
        "--directory", type=Path, help="where to work (default: a temporary directory)"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, on_sigterm)
    with tempfile.TemporaryDirectory(prefix="gworker-chaos-") as temporary:
        directory = arguments.directory or Path(temporary)
        rows = run(directory, arguments.seconds, arguments.seed, arguments.every, arguments.few)
    print_table(rows)
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
