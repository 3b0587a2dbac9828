"""Runs the benchmarks: python benchmarks/run.py [--only SECTION …] [--rounds N] [--json FILE].

Exits 1 when a target is missed. What each section measures, and how, stands in README.md beside
this file.
"""

import argparse
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import chaos
import cost
import deploys
import files
import life
import psutil
import secure
import slow
from cost import Settings
from measure import CORES, LOAD_CORE, SERVER_CORE, BenchmarkError, compile_programs
from report import Row, describe_machine, failed, print_table, write_json
from subjects import GWORKER, PEERS, Subject

SECTIONS = (
    "messages",
    "large",
    "peers",
    "memory",
    "tls",
    "many",
    "latency",
    "sleep",
    "process",
    "balance",
    "broadcast",
    "file",
    "slow",
    "reload",
    "deploy",
    "handover",
    "chaos",
)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measures gworker against a C epoll echo and its peers."
    )
    parser.add_argument(
        "--only", action="append", choices=SECTIONS, help="a section, repeatable (default: all)"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="the median of so many rounds counts (default 3)"
    )
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="measured window of each load (default 3)"
    )
    parser.add_argument(
        "--many", type=int, default=18_000, help="connections of the section many (default 18000)"
    )
    parser.add_argument(
        "--idle", type=int, default=9_000, help="connections of the section memory (default 9000)"
    )
    parser.add_argument(
        "--reloads",
        type=int,
        default=200,
        help="of the section reload, for each protocol (default 200)",
    )
    parser.add_argument(
        "--chaos", type=float, default=600.0, help="seconds of the section chaos (default 600)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="of what the section chaos draws (default 1)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures to this file too"
    )
    return parser.parse_args()


def chosen_subjects(only: set[str]) -> list[Subject]:
    """`peers` adds the peers to the sections that compare; alone, it measures nothing else."""
    return [
        *(GWORKER if only & {"messages", "latency"} else ()),
        *(PEERS if "peers" in only else ()),
    ]


def plan(only: set[str], settings: Settings) -> dict[str, Callable[[], list[Row]]]:
    subjects = chosen_subjects(only)
    sections: dict[str, Callable[[], list[Row]]] = {
        "large": lambda: cost.large(settings),
        "memory": lambda: life.memory(settings, peers="peers" in only),
        "tls": lambda: secure.tls(settings),
        "many": lambda: cost.many(settings),
        "latency": lambda: cost.latency(settings, subjects),
        "sleep": lambda: life.sleep(settings),
        "process": lambda: life.process(settings),
        "balance": lambda: life.balance(settings),
        "broadcast": lambda: life.broadcast(settings),
        "file": lambda: files.file(settings),
        "slow": lambda: slow.run(settings),
        "reload": lambda: life.reload(settings),
        "deploy": lambda: deploys.deploy(settings),
        "handover": lambda: deploys.handover(settings),
        "chaos": lambda: chaos.run(settings.directory, settings.chaos, settings.seed),
    }
    chosen = {name: run for name, run in sections.items() if name in only}
    if only & {"messages"} or only == {"peers"}:
        return {"messages": lambda: cost.messages(settings, subjects)} | chosen
    return chosen


def run_sections(sections: dict[str, Callable[[], list[Row]]]) -> list[Row]:
    rows: list[Row] = []
    for name, run in sections.items():
        print(f"\n== {name}", flush=True)
        try:
            rows += run()
        except (BenchmarkError, OSError, psutil.Error, subprocess.SubprocessError) as error:
            rows.append(failed(name, name, error))
    return rows


def raise_descriptor_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def on_sigterm(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # unwinds every `with`, so that servers are stopped


def main() -> int:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, on_sigterm)
    raise_descriptor_limit()
    compile_programs()
    print(f"server on core {SERVER_CORE}, load on core {LOAD_CORE}")
    if len(CORES) == 1:
        print("only one core: server and load share it, so figures are not comparable with others")
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="gworker-bench-") as directory:
        settings = Settings(
            arguments.rounds, arguments.seconds, arguments.many, arguments.idle, Path(directory),
            arguments.reloads, arguments.seed, arguments.chaos,
        )  # fmt: skip
        rows = run_sections(plan(set(arguments.only or SECTIONS), settings))
    print_table(rows)
    if arguments.json:
        write_json(arguments.json, machine, rows)
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
