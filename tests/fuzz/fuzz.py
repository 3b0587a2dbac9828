"""Fuzz every parser with atheris, each for a bounded time in a process of its own.

    make fuzz                                   # a minute for each
    python tests/fuzz/fuzz.py --seconds 600 --only http

Seeds are the files in corpus/NAME. What is found on the way is kept under --found, so that a longer
run goes on where a shorter one ended. An input that breaks a parser is written there too, and its
path printed; with --replay FILE the target of that name runs on it once. The exit code is 1 if any
was found.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MEMORY_MB = 512
INPUT_SECONDS = 30  # of the wall: other work may be done beside it
MAX_INPUT = 4096


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Fuzz the parsers of gworker.")
    parser.add_argument("--seconds", type=int, default=60, help="for each parser (60)")
    parser.add_argument("--only", action="append", help="this parser; may be given more than once")
    parser.add_argument(
        "--found",
        type=Path,
        default=HERE / ".found",
        help="where inputs are kept (tests/fuzz/.found)",
    )
    parser.add_argument("--jobs", type=int, default=2, help="parsers at a time (2)")
    parser.add_argument("--replay", type=Path, help="run one target (--only) on one input")
    parser.add_argument("--target", help=argparse.SUPPRESS)
    known, rest = parser.parse_known_args()
    if known.target:
        return fuzz(known.target, rest)
    sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
    from targets import TARGETS

    names = known.only or list(TARGETS)
    for name in names:
        if name not in TARGETS:
            parser.error(f"no target {name!r}; there are {', '.join(TARGETS)}")
    if known.replay:
        TARGETS[names[0]](known.replay.read_bytes())
        print("nothing happens")
        return 0
    return run_all(names, known.seconds, known.jobs, known.found)


def fuzz(name: str, arguments: list[str]) -> int:
    """In the child: hand the target to atheris, which never returns."""
    import atheris

    sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
    with atheris.instrument_imports(include=["gworker"]):
        from targets import TARGETS

        import gworker.protocols.http.protocol
        import gworker.protocols.websocket.server  # noqa: F401
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()
    return 0


def run_all(names: list[str], seconds: int, jobs: int, found: Path) -> int:
    """Run the targets, a few at a time; return the exit code."""
    waiting, running, failed = list(names), {}, []
    print(f"{'parser':20} {'runs':>10} {'edges':>7} {'peak MB':>8}  outcome", flush=True)
    while waiting or running:
        while waiting and len(running) < jobs:
            name = waiting.pop(0)
            running[name] = start(name, seconds, found)
        time.sleep(0.2)
        for name, child in list(running.items()):
            if child.poll() is None:
                continue
            del running[name]
            if not report(
                name, child.returncode, (found / f"{name}.log").read_text(errors="replace")
            ):
                failed.append(name)
    return 1 if failed else 0


def start(name: str, seconds: int, found: Path) -> subprocess.Popen[bytes]:
    """One target in its process, its output in a file."""
    for directory in (found / name, HERE / "corpus" / name):
        directory.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}", f"-rss_limit_mb={MEMORY_MB}", f"-timeout={INPUT_SECONDS}",
        f"-max_len={MAX_INPUT}", f"-artifact_prefix={found}/{name}-", "-print_final_stats=1",
    ]  # fmt: skip
    with (found / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, __file__, "--target", name, *options, str(found / name),
            str(HERE / "corpus" / name)],
            stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip


def report(name: str, code: int, log: str) -> bool:
    """Print a line about a target that has ended; True if nothing was found."""
    runs = re.search(r"stat::number_of_executed_units:\s*(\d+)", log)
    memory = re.search(r"stat::peak_rss_mb:\s*(\d+)", log)
    edges = re.findall(r"cov: (\d+)", log)
    bad = re.search(r"Test unit written to (\S+)", log)
    outcome = "ok" if code == 0 else f"exit code {code}"
    if bad:
        outcome = f"FOUND {bad.group(1)}"
    print(
        f"{name:20} {runs.group(1) if runs else '?':>10} {edges[-1] if edges else '?':>7}"
        f" {memory.group(1) if memory else '?':>8}  {outcome}",
        flush=True,
    )
    if code:
        print(log[-3000:])
    return code == 0


if __name__ == "__main__":
    sys.exit(main())
