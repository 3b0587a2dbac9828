"""What malloc(3) keeps of large blocks that were freed."""

from __future__ import annotations

import platform
import subprocess

import places
import pytest


def faults(*arguments: str) -> int:
    command = [*places.program("frees_large_blocks"), *arguments]
    return int(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_large_blocks_get_their_pages_once() -> None:
    assert faults("keep") < 4000 < faults()
