"""Runs the benchmarks: python benchmarks/run.py [--rows ROW …] [--rounds N] [--json FILE].

Exits 1 when a target is missed. What each row measures, and how, stands in README.md beside this
file.
"""

import argparse
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import chaos
import cost
import deploys
import files
import life
import messages
import preload
import psutil
import slow
from cost import WORKLOADS, Settings
from measure import CORES, LOAD_CORE, SERVER_CORE, BenchmarkError, compile_programs
from report import Row, describe_machine, failed, print_table, write_json
from subjects import PEERS, Subject, gworker

Section = Callable[[Settings], list[Row]]

SECTIONS: dict[str, Section] = {
    "sleep": life.sleep,
    "process": life.process,
    "preload": preload.preload,
    "balance": life.balance,
    "broadcast": life.broadcast,
    "file": files.file,
    "slow": slow.run,
    "reload": life.reload,
    "deploy": deploys.deploy,
    "handover": deploys.handover,
    **messages.SECTIONS,
    "chaos": lambda settings: chaos.run(settings.directory, settings.chaos, settings.seed),
}
COST = tuple(workload.name for workload in WORKLOADS)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measures gworker against a C epoll echo and its peers."
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="ROW",
        choices=("cost", "messages", *COST, *SECTIONS),
        help="what to measure (default: all); cost is short for every row that is relative to the "
        "C echo or compared with peers, messages for those between processes. "
        f"Rows: {' '.join((*COST, *SECTIONS))}",
    )
    parser.add_argument(
        "--peers",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure the peers that are installed too (default)",
    )
    parser.add_argument(
        "--before", type=Path, metavar="TREE", help="another checkout of gworker, in each round"
    )
    parser.add_argument(
        "--pure",
        action="store_true",
        help="gworker with GWORKER_PURE=1, without compiled code, in each round",
    )
    parser.add_argument(
        "--python",
        default=sys.executable,
        metavar="PATH",
        help="an interpreter that has what gworker needs (default: this one)",
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="the median of so many rounds counts (default 5)"
    )
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="measured window of each load (default 3)"
    )
    parser.add_argument("--quick", action="store_true", help="one round with windows of 1 s")
    parser.add_argument(
        "--many", type=int, default=18_000, help="connections of the row many (default 18000)"
    )
    parser.add_argument(
        "--idle", type=int, default=9_000, help="connections of the row idle-ws (default 9000)"
    )
    parser.add_argument(
        "--reloads", type=int, default=200, help="of the row reload, for each protocol (200)"
    )
    parser.add_argument(
        "--chaos", type=float, default=600.0, help="seconds of the row chaos (default 600)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="of what the row chaos draws (default 1)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures to this file too"
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 1.0
    return arguments


def chosen_subjects(arguments: argparse.Namespace) -> dict[Subject, str]:
    """Those that are installed, with their versions. Raises BenchmarkError if a gworker is not."""
    subjects = [gworker(python=arguments.python)]
    if arguments.before:
        subjects.append(gworker("before", tree=arguments.before.resolve(), python=arguments.python))
    if arguments.pure:
        subjects.append(gworker("gworker (Python)", python=arguments.python, pure=True))
    versions = {subject: subject.version() for subject in subjects}
    for peer in PEERS if arguments.peers else ():
        try:
            versions[peer] = peer.version()
        except BenchmarkError as error:
            print(f"left out, as it cannot be imported here: {error}")
    for subject, version in versions.items():
        print(f"{subject.name}: {version}")
    return versions


def chosen_sections(rows: set[str], subjects: list[Subject]) -> dict[str, Section]:
    ours = [subject for subject in subjects if subject not in PEERS]
    sections: dict[str, Section] = {
        workload.name: partial(
            cost.run, workload=workload, subjects=subjects if workload.peers else ours
        )
        for workload in WORKLOADS
        if rows & {"cost", workload.name}
    }
    return sections | {name: section for name, section in SECTIONS.items() if name in rows}


def run_sections(sections: dict[str, Section], settings: Settings) -> list[Row]:
    rows: list[Row] = []
    for name, run in sections.items():
        print(f"\n== {name}", flush=True)
        try:
            rows += run(settings)
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
    rows = set(arguments.rows or ("cost", *SECTIONS))
    if "messages" in rows:
        rows |= set(messages.SECTIONS)
    subjects = chosen_subjects(arguments) if rows & {"cost", *COST} else {}
    machine["subjects"] = {subject.name: version for subject, version in subjects.items()}
    with tempfile.TemporaryDirectory(prefix="gworker-bench-") as directory:
        settings = Settings(
            arguments.rounds, arguments.seconds, arguments.many, arguments.idle, Path(directory),
            arguments.python, arguments.reloads, arguments.seed, arguments.chaos,
        )  # fmt: skip
        figures = run_sections(chosen_sections(rows, list(subjects)), settings)
    print_table(figures)
    if arguments.json:
        write_json(arguments.json, machine, figures)
    return 0 if all(row.ok for row in figures) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchmarkError as error:
        sys.exit(str(error))
