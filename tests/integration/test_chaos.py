"""A short chaos trial: what benchmarks/chaos.py does for minutes, with a fixed seed for a few
seconds."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import places
import pytest

TRIAL = places.ROOT / "benchmarks" / "chaos.py"

pytestmark = pytest.mark.timeout(180)


def test_a_short_trial_finds_nothing_amiss(tmp_path: Path) -> None:
    for directory in (
        tmp_path,
        *tmp_path.parents,
    ):  # as root it serves as another user, which has to get there
        if directory.is_relative_to(tempfile.gettempdir()) and directory != Path(
            tempfile.gettempdir()
        ):
            directory.chmod(0o755)
    done = subprocess.run(
        [
            sys.executable,
            str(TRIAL),
            "--few",
            "--seconds",
            "2.5",
            "--seed",
            "8",
            "--directory",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    deeds = re.search(r"deeds \(seed 8\)\s+(\d+)", done.stdout)
    assert deeds is not None
    assert int(deeds[1]) >= 3, "enough was done to find something"
    answered = re.search(r"once and in order\s+(\d+)", done.stdout)
    assert answered is not None
    assert int(answered[1]) >= 50


def test_a_silent_arbiter_is_told_of_without_an_import() -> None:
    """The trial asks as a user that may be unable to read Python's directory."""
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import chaos_site;"
        "loaded = set(sys.modules); instances = chaos_site.instances;"
        "chaos_site.control_client.Silent(instances.Instance('chaos', os.getpid(), ''), 1.0);"
        "print(sorted(set(sys.modules) - loaded))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(TRIAL.parent)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "[]\n"
