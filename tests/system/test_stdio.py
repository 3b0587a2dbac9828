"""Closed standard descriptors: whichever of them are, nothing else takes their place."""

from __future__ import annotations

import json
import os
import subprocess
from itertools import combinations
from pathlib import Path

import places
import pytest

PROGRAM = places.program("uses_standard_streams")

SUBSETS = [closed for size in range(4) for closed in combinations(range(3), size)]


@pytest.mark.parametrize("closed", SUBSETS, ids=str)
def test_what_is_closed_becomes_dev_null(tmp_path: Path, closed: tuple[int, ...]) -> None:
    files = [open(tmp_path / name, "w+") for name in ("0", "1", "2")]  # noqa: SIM115
    shell = ["sh", "-c", 'exec "$0" "$@" ' + " ".join(f"{number}>&-" for number in closed)]
    done = subprocess.run(
        [*shell, *PROGRAM, str(tmp_path / "facts")],
        stdin=files[0],
        stdout=files[1],
        stderr=files[2],
        check=False,
    )
    for each in files:
        each.close()
    said = [(tmp_path / str(number)).read_text() for number in range(3)]
    assert done.returncode == 0, said
    facts, read, further = json.loads((tmp_path / "facts").read_text())
    assert read == ""
    assert further > 2
    for number in range(3):
        path = os.devnull if number in closed else str(tmp_path / str(number))
        assert facts[str(number)] == [path, True], number
    assert said[1] == ("" if 1 in closed else "printed\nprinted\n")
    assert said[2] == ("" if 2 in closed else "complained\ncomplained\n")
