"""Users and groups of worker processes, over real processes. Needs root and setpriv(1).

The Python of these tests may lie where only root can read, so the processes that drop their
privileges keep one
capability: to read everything. What a user without any can do is tested in
tests/system/test_privileges.py.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import places
import pytest
from instance import Instance, wait_for

import gworker

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("setpriv") is None,
        reason="needs root, to drop privileges with setpriv(1)",
    ),
]
NOBODY = pwd.getpwnam("nobody")
NO_PRIVILEGES = [
    "setpriv",
    f"--reuid={NOBODY.pw_uid}",
    f"--regid={NOBODY.pw_gid}",
    "--clear-groups",
]

KEEPS_READING = ["setpriv", "--securebits=+no_setuid_fixup"]
"""A process that becomes another user then can read all the same."""

APP = places.app("privileges")


def owned_by(user: str) -> str:
    """An app that wants to choose the user of one of its Workers."""
    return APP.replace("OPTIONS = {}", f"OPTIONS = {{'user': {user!r}}}")


@pytest.fixture
def make(open_path: Path) -> Iterator[Callable[[str], Instance]]:
    """`make(source)`: an instance in a directory that every user may read."""
    made: list[Instance] = []

    def one(source: str) -> Instance:
        made.append(Instance(open_path / f"instance-{len(made)}", source))
        return made[-1]

    yield one
    for instance in made:
        instance.kill()


def status_of(pid: int) -> dict[str, list[int]]:
    """Uid, Gid and Groups of a process as the kernel has them."""
    lines = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return {name: [int(each) for each in lines[name].split()] for name in ("Uid", "Gid", "Groups")}


def ask(one: Instance, name: str) -> tuple[list[Any], dict[str, list[int]]]:
    imported, pid = json.loads(one.ask(name, b"who\n"))
    return imported, status_of(pid)


def as_nobody(one: Instance) -> Instance:
    """Its commands run as nobody, who may read this test's Python."""
    os.chown(one.directory, NOBODY.pw_uid, NOBODY.pw_gid)
    capability = "+dac_read_search"
    one.prefix = [*NO_PRIVILEGES, f"--inh-caps={capability}", f"--ambient-caps={capability}"]
    one.prefix += [f"--bounding-set=-all,{capability}"]
    one.user = NOBODY.pw_uid
    return one


AS_DAEMON = 'user = "daemon"\ngroup = "daemon"\n'
"""What a file of settings gives a Worker."""


def test_worker_processes_run_as_the_user_with_none_of_roots_groups(
    make: Callable[[str], Instance],
) -> None:
    one = make(APP)
    (one.directory / "gworker.toml").write_text(f"[worker.own]\n{AS_DAEMON}")
    # As a login shell of root: supplementary groups that must not be kept.
    one.prefix = [*KEEPS_READING, "--groups=0,1,2,3"]
    one.start("--user", "nobody", "--env", "PYTHONDONTWRITEBYTECODE=1")
    daemon = pwd.getpwnam("daemon")
    for name, uid, gid in (
        ("plain", NOBODY.pw_uid, NOBODY.pw_gid),
        ("own", daemon.pw_uid, daemon.pw_gid),
    ):
        imported, status = ask(one, name)
        assert imported == [[uid] * 3, [gid] * 3, [gid]], "user code is imported as that user"
        assert status == {"Uid": [uid] * 4, "Gid": [gid] * 4, "Groups": [gid]}
    assert status_of(one.pid)["Uid"] == [0] * 4
    assert one.reload()["exit"] == 0
    assert ask(one, "plain")[0][0] == [NOBODY.pw_uid] * 3


def test_a_target_cannot_choose_its_user(make: Callable[[str], Instance]) -> None:
    """Neither at the start nor at a reload nor in a check; the file of settings can choose, but not
    root."""
    hostile = owned_by("root") + 'open(f"as-{os.geteuid()}", "w")\n'
    one = make(hostile)
    one.prefix = KEEPS_READING
    one.directory.chmod(0o777)
    refused = "Worker 'own': user 'root': with --user set, no Worker runs as root"
    for command in (["app"], ["check", "app"]):
        started = one.run(*command, "--user", "nobody", "--env", "PYTHONDONTWRITEBYTECODE=1")
        assert started.returncode == 1
        assert refused in started.stderr
    one.write(APP)
    one.start("--user", "nobody", "--env", "PYTHONDONTWRITEBYTECODE=1")
    one.write(hostile)
    reload = one.reload()
    assert (reload["exit"], reload["error"]) == (1, refused)
    one.write(owned_by("daemon"))
    assert "only the settings can give a Worker another user" in one.reload()["error"]
    assert ask(one, "own")[1]["Uid"] == [NOBODY.pw_uid] * 4, "the old generation serves"
    (one.directory / "gworker.toml").write_text(f"[worker.own]\n{AS_DAEMON}")
    assert one.reload()["exit"] == 0
    assert ask(one, "own")[1]["Uid"] == [pwd.getpwnam("daemon").pw_uid] * 4
    (one.directory / "gworker.toml").write_text('[worker.own]\nuser = "root"\n')
    assert one.reload()["error"] == refused
    assert {path.name for path in one.directory.glob("as-*")} == {f"as-{NOBODY.pw_uid}"}


def can_read_python() -> bool:
    """Whether nobody can: this Python itself may be where only root can read."""
    reads = f"import os, sys; sys.exit(os.__file__ != {os.__file__!r})"
    return not subprocess.run(
        [*NO_PRIVILEGES, sys.executable, "-c", reads], check=False, stderr=DEVNULL
    ).returncode


def test_code_that_the_user_cannot_read_is_a_failed_start(make: Callable[[str], Instance]) -> None:
    if not can_read_python():
        pytest.skip("this Python itself is where nobody else can read")
    one = make(APP)
    (one.directory / "app.py").chmod(0o600)
    started = one.run("app", "--user", "nobody")
    assert started.returncode == 1
    assert "PermissionError" in started.stderr


@pytest.mark.parametrize("command", [["app"], ["app", "-d"], ["check", "app"]], ids=" ".join)
def test_a_python_that_the_user_cannot_read_is_named(
    make: Callable[[str], Instance], monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """Python itself says that there is no module of some name."""
    one, what = make("from gworker import Worker\ndrum = Worker()"), "Python"
    if can_read_python():
        what, closed = "gworker", one.directory / "closed"
        shutil.copytree(os.path.dirname(gworker.__file__), closed / "gworker")
        closed.chmod(0o700)
        monkeypatch.setenv("PYTHONPATH", str(closed))
    one.prefix = ["env"]  # executed, and not forked by a process that has imported all
    done = one.run(*command, "--user", "nobody", "--log-file", str(one.log))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"gworker: error: user 'nobody' cannot read {what}: /")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--user", "root"], "cannot run as user 'root': only root can change the user"),
        (["--group", "daemon"], "cannot run as group 'daemon': only root can change the group"),
    ],
)
def test_who_is_not_root_is_refused_before_anything_starts(
    make: Callable[[str], Instance], options: list[str], reason: str
) -> None:
    one = as_nobody(make("from gworker import Worker\ndrum = Worker()"))
    started = one.run("app", *options)
    assert (started.returncode, started.stderr) == (1, f"gworker: error: {reason}\n")
    wait_for(lambda: not one.processes(), "the end of the arbiter")


def test_a_worker_that_wants_another_user_is_refused_without_root(
    make: Callable[[str], Instance],
) -> None:
    one = as_nobody(make("from gworker import Worker\ndrum = Worker(user='root')"))
    started = one.run("app")
    assert started.returncode == 1
    assert started.stderr == (
        "gworker: error: Worker 'drum': cannot run as user 'root': only root can change the user\n"
    )


def test_an_address_that_is_not_permitted(make: Callable[[str], Instance]) -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first <= 1:
        pytest.skip("every port is permitted here")
    one = as_nobody(make("from gworker import Worker\nlow = Worker('tcp://127.0.0.1:1')"))
    started = one.run("app", "-d", "--log-file", str(one.log))
    assert started.returncode == 1
    assert started.stderr == (
        "gworker: error: Worker 'low': cannot listen on tcp://127.0.0.1:1: not permitted for "
        "this user (port 1)\n"
    )
    wait_for(lambda: not one.processes(), "the end of the arbiter")


def test_another_user_cannot_command_the_instance(make: Callable[[str], Instance]) -> None:
    one = make("from gworker import Worker\ndrum = Worker()")
    one.start()
    one.runtime.chmod(0o755)
    one.prefix = as_nobody(make("")).prefix
    stopped = one.run("stop", "app")
    assert stopped.returncode == 1
    assert "belongs to another user" in stopped.stderr
    one.prefix = []
    assert one.run("status").returncode == 0


def test_root_does_not_believe_the_pid_file_of_another_user(
    make: Callable[[str], Instance],
) -> None:
    """That user may have had it name any process of root's."""
    one = as_nobody(make("from gworker import Worker\ndrum = Worker()"))
    one.start()
    one.prefix = []
    (pid_file,) = one.runtime.glob("*.pid")
    by_name, by_file = one.run("stop", "app"), one.run("stop", "--pid", str(pid_file))
    assert (by_name.returncode, by_file.returncode) == (3, 3)
    for told in (by_name, by_file):
        assert f"it belongs to user {NOBODY.pw_uid}, neither to root nor to you" in told.stderr
    assert one.status()["state"] == "running"


LURE = """
import fcntl, os, signal, sys
os.setuid(int(sys.argv[1]))
pid_file = open(sys.argv[2], "w")
fcntl.flock(pid_file, fcntl.LOCK_EX)
print(sys.argv[3], file=pid_file, flush=True)
print("set", flush=True)
signal.pause()
"""


@pytest.mark.parametrize("owner", [NOBODY.pw_uid, 0], ids=["of nobody", "of root"])
@pytest.mark.parametrize(
    "argv",
    [["stop"], ["stop", "--quick"], ["restart", "app"], ["reload"], ["status"], ["list"]],
    ids="-".join,
)
def test_no_command_touches_the_process_that_a_pid_file_names_if_it_is_no_arbiter(
    make: Callable[[str], Instance], argv: list[str], owner: int
) -> None:
    """CVE-2018-16888: root stopped whatever process the file of another user named."""
    one = make("raise RuntimeError('restart goes on to the start')")
    one.runtime.mkdir(mode=0o777)
    one.runtime.chmod(0o777)
    pid_file = one.runtime / "app.pid"
    with subprocess.Popen(["sleep", "600"]) as victim:
        lure = [sys.executable, "-c", LURE, str(owner), str(pid_file), str(victim.pid)]
        with subprocess.Popen(lure, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "set\n"
            by_name = one.run(*argv)
            by_file = one.run(*argv, "--pid", str(pid_file)) if argv != ["list"] else by_name
            holder.kill()
        expected = {"list": 0, "restart": 1}.get(argv[0], 3)
        assert (by_name.returncode, by_file.returncode) == (expected, expected)
        assert victim.poll() is None
        victim.kill()


def limit_processes(pid: int, number: int) -> None:
    # By the same user: root itself may lack CAP_SYS_RESOURCE in a container.
    subprocess.run([*NO_PRIVILEGES, "prlimit", f"--pid={pid}", f"--nproc={number}:"], check=True)


def test_a_fork_that_is_refused_is_tried_again_and_nothing_dies(
    make: Callable[[str], Instance],
) -> None:
    """Limits of processes do not hold for root."""
    one = as_nobody(
        make(
            """
    import os
    from gworker import Worker

    text = Worker("text://127.0.0.1:0", count=2)
    text.on_message = lambda connection, line: connection.send(str(os.getpid()))
    """
        )
    )
    one.start("--env", "PYTHONDONTWRITEBYTECODE=1")
    first, second = (row["pid"] for row in one.workers())
    limit_processes(one.pid, 0)
    os.kill(first, signal.SIGKILL)
    one.wait_log("fork: Resource temporarily unavailable")
    refused = one.reload()
    assert (refused["exit"], refused["error"]) == (1, "fork: Resource temporarily unavailable")
    assert [row["pid"] for row in one.workers() if row["state"] == "ready"] == [second]
    assert int(one.ask("text", b"?\n")) == second
    limit_processes(one.pid, 1000)
    wait_for(lambda: [row["state"] for row in one.workers()] == ["ready", "ready"], "filled again")


def test_an_upload_directory_that_the_user_cannot_write_is_refused(
    make: Callable[[str], Instance], open_path: Path
) -> None:
    one = as_nobody(make("from gworker import Worker\nweb = Worker('http://127.0.0.1:0')"))
    (open_path / "spool").mkdir(mode=0o755)
    started = one.run("app", "--upload-dir", str(open_path / "spool"))
    assert started.returncode == 1
    assert f"web: upload_dir {open_path}/spool: this user cannot write there" in started.stderr
