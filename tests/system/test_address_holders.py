"""The programs that hold an address are named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import places
import pytest

from gworker.errors import ConfigError
from gworker.system.address import parse
from gworker.system.bind import bind


def refused(url: str) -> str:
    with pytest.raises(ConfigError) as caught:
        bind(parse(url), backlog=8).close()
    return str(caught.value)


HOLDING = places.program("holds_address")


@pytest.mark.parametrize(
    ("url", "family", "kind"),
    [
        ("tcp://127.0.0.1:{port}", "AF_INET", "SOCK_STREAM"),
        ("tcp://0.0.0.0:{port}", "AF_INET", "SOCK_STREAM"),
        ("udp://127.0.0.1:{port}", "AF_INET", "SOCK_DGRAM"),
        ("unix://{path}", "AF_UNIX", "SOCK_STREAM"),
        ("unix://@{path}", "AF_UNIX", "SOCK_STREAM"),
    ],
)
def test_the_program_that_holds_it_is_named(
    url: str, family: str, kind: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "sock")
    place = f"@{path}" if "@" in url else path
    command = [*HOLDING, family, kind, place, "holding"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as other:
        try:
            assert other.stdout is not None
            at = url.format(port=other.stdout.readline().strip(), path=path)
            text = (
                f"cannot listen on {at}: the address is in use by another program: "
                f"{other.pid} ({sys.executable} "
            )
            assert refused(at).startswith(text)
            assert refused(at).count("(") == 1
        finally:
            os.killpg(other.pid, signal.SIGKILL)
