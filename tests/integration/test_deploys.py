"""Deploys by a symbolic link that is switched to the next release, as Capistrano lays them out."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import places
import pytest
from instance import DEADLINE, Instance, wait_for

APP = places.APPS / "released.py"
DEPLOY = places.ROOT / "contrib" / "capistrano" / "deploy.sh"
GWORKER = f"{sys.executable} -m gworker"
SETTINGS = "target = 'app.py'\n"


class Site(Instance):
    """`releases/1`, `releases/2`, … and `current`, which leads to one of them."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "")
        self.current = directory / "current"
        self.exits = directory / "exits"

    def release(self, number: int, settings: str = "") -> None:
        """Make a release, and have `current` lead to it. All files are equally old in all
        releases."""
        directory = self.directory / "releases" / str(number)
        directory.mkdir(parents=True)
        for name, source in {
            "app.py": APP.read_text(),
            "release.py": f"NUMBER = {number}\n",
            "late.py": f"NUMBER = {number}\n",
            **({"gworker.toml": settings} if settings else {}),
        }.items():
            (directory / name).write_text(source)
            os.utime(directory / name, (1e9, 1e9))
        os.utime(directory, (1e9, 1e9))
        link = self.directory / "current.new"
        link.symlink_to(directory)
        link.rename(self.current)

    def remove(self, number: int) -> None:
        """Delete a release."""
        shutil.rmtree(self.directory / "releases" / str(number))

    def in_shell(self, words: str, where: Path) -> subprocess.CompletedProcess[str]:
        """A command that is typed in `where`, to which `cd` has led."""
        options = f"--name site --runtime-dir {self.runtime}"
        return subprocess.run(
            ["sh", "-c", f"cd {shlex.quote(str(where))} && exec {words} {options}"],
            text=True, capture_output=True, timeout=DEADLINE, check=False, env={**os.environ,
            "EXITS": str(self.exits)},
        )  # fmt: skip

    def answers(self) -> set[str]:
        """What each of the processes answers, without its pid."""
        found: dict[str, str] = {}

        def both() -> bool:
            for _ in range(10):
                answer, _, pid = self.ask("text", b"?\n").decode().rpartition(" ")
                found[pid] = answer
            return len(found) >= 2

        wait_for(both, "an answer of each process")
        return set(found.values())

    def ready(self) -> set[int]:
        """The pids of the processes that serve."""
        return {row["pid"] for row in self.workers() if row["state"] == "ready"}

    def wait_for_release(self, number: int) -> None:
        """Wait until both processes serve it: one that has been told to retire may accept once
        more."""
        wait_for(
            lambda: self.answers() == {f"{number} {number} {self.current}"}, f"release {number}"
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "site")
    yield made
    made.kill()


@pytest.mark.parametrize(
    ("start", "inside"),
    [
        (f"{GWORKER} app:text", True),
        (f"{GWORKER} app --chdir {{current}}", False),
        (GWORKER, True),  # gworker.toml names a file
        (f"{sys.executable} app.py start", True),
    ],
)
def test_the_release_that_is_current_is_served(site: Site, start: str, inside: bool) -> None:
    site.release(1, SETTINGS)
    where = site.current if inside else site.directory
    started = site.in_shell(f"{start.format(current=site.current)} -d --log-file {site.log}", where)
    assert started.returncode == 0, started.stderr
    site.wait_for_release(1)

    site.release(2, SETTINGS + "graceful-timeout = 7\n")
    reloaded = site.in_shell(f"{GWORKER} reload", where)
    assert reloaded.returncode == 0, reloaded.stderr
    site.wait_for_release(2)
    settings = {
        name: value for name, value, _ in site.ask_arbiter("settings")[0]["settings"]["rows"]
    }
    assert settings["graceful-timeout"] == (7 if inside else 30), (
        "the file is read where the command was run"
    )

    site.release(3, SETTINGS)
    site.remove(1)
    site.remove(2)
    before = site.ready()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_for(
        lambda: len(site.ready() - before) == len(before) and not before & site.ready(),
        "new processes",
    )
    site.wait_for_release(3)
    wait_for(
        lambda: site.exits.read_text().split().count("3") >= len(before),
        "the callbacks of the instance",
    )

    upgraded = site.in_shell(f"{GWORKER} upgrade", where)
    assert upgraded.returncode == 0, upgraded.stderr
    site.release(4, SETTINGS)
    site.remove(3)
    site.signal(signal.SIGHUP)
    wait_for(lambda: "generation 4 serves" in site.read_log(), "a reload after the upgrade")
    site.wait_for_release(4)
    assert site.in_shell(f"{GWORKER} stop", where).returncode == 0
    assert "Traceback" not in site.read_log()


def test_a_script_by_its_absolute_name_does_without_the_directory(site: Site) -> None:
    site.release(1, "")
    where = site.directory / "somewhere"
    where.mkdir()
    assert (
        site.in_shell(f"{GWORKER} {site.current}/app.py -d --log-file {site.log}", where).returncode
        == 0
    )
    where.rmdir()
    site.release(2, "")
    for command in ("reload", "upgrade"):
        done = site.in_shell(f"{GWORKER} {command}", site.directory)
        assert done.returncode == 0, done.stderr
    before = site.ready()
    os.kill(min(before), signal.SIGKILL)
    wait_for(lambda: len(site.ready() - before) == 1, "a dead process is replaced")
    site.wait_for_release(2)


def test_a_directory_that_is_gone_refuses_the_reload(site: Site) -> None:
    """One that was only renamed is not served in its place."""
    site.release(1, "")
    assert site.in_shell(f"{GWORKER} app -d --log-file {site.log}", site.current).returncode == 0
    site.wait_for_release(1)
    site.current.rename(site.directory / "old")
    done = site.in_shell(f"{GWORKER} reload", site.directory)
    assert done.returncode == 1
    assert done.stderr.endswith(
        f"error: module 'app' not found; looked in {site.current} and on sys.path\n"
    )
    site.wait_for_release(1)
    site.release(2, "")
    assert site.in_shell(f"{GWORKER} reload", site.directory).returncode == 0
    site.wait_for_release(2)


def test_the_watcher_of_reload_sees_the_switch(site: Site) -> None:
    site.release(1, "")
    started = site.in_shell(f"{GWORKER} app --reload -d --log-file {site.log}", site.current)
    assert started.returncode == 0, started.stderr
    site.wait_for_release(1)
    site.release(2, "")
    site.wait_log("generation 2 serves")
    assert "changed: app.py, " in site.read_log(), "named from the directory that is current"
    site.wait_for_release(2)


def test_the_script_for_deploys(site: Site, tmp_path: Path) -> None:
    """It switches the link, and takes it back from a release that cannot be loaded."""
    site.release(1, "")
    started = site.in_shell(f"{GWORKER} app -d --log-file {site.log}", site.current)
    assert started.returncode == 0, started.stderr
    source = tmp_path / "source"
    shutil.copytree(site.directory / "releases" / "1", source)
    (source / "release.py").write_text("NUMBER = 2\n")
    (source / "late.py").write_text("NUMBER = 2\n")
    # The script runs what an installation has in PATH.
    command = tmp_path / "bin" / "gworker"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {GWORKER} "$@"\n')
    command.chmod(0o755)
    deploy = f"env PATH={command.parent}:$PATH {DEPLOY} {site.directory} {source}"
    done = site.in_shell(deploy, tmp_path)
    assert done.returncode == 0, done.stderr
    site.wait_for_release(2)

    (source / "app.py").write_text("nonsense")
    served = os.readlink(site.current)
    refused = site.in_shell(deploy, tmp_path)
    assert refused.returncode == 1
    assert "NameError" in refused.stderr
    assert os.readlink(site.current) == served
    assert len(os.listdir(site.directory / "releases")) == 2
    site.wait_for_release(2)
