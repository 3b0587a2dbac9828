"""The files around an instance are about this gworker: options that exist, completions that are current, syntax."""

from __future__ import annotations

import configparser
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gworker.cli import COMMANDS
from gworker.config import OPTIONS

ROOT = Path(__file__).parent.parent
CONTRIB = ROOT / "contrib"
DOCUMENTED = [
    path for path in sorted(CONTRIB.rglob("*")) if path.is_file() and "completions" not in path.parts
]  # those of the completions are generated
FLAGS = {flag for option in OPTIONS for flag in option.flags} | {
    "--help",
    "--version",
    "--quick",
    "--no-wait",
    "--json",
}
FOREIGN = {
    *("--now",),  # systemctl
    *("--read-only", "--tmpfs", "--time", "--from", "--interval", "--start-period", "--no-cache-dir"),  # docker, pip
}


def unit(name: str) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, strict=False)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(CONTRIB / "systemd" / name)
    return found


@pytest.mark.parametrize("path", DOCUMENTED, ids=lambda path: path.name)
def test_options_that_are_named_exist(path: Path) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", path.read_text()))
    assert named <= FLAGS | FOREIGN


def test_something_was_looked_at() -> None:
    assert len(DOCUMENTED) >= 8
    assert any("--graceful-timeout" in path.read_text() for path in DOCUMENTED)


def test_the_commands_that_units_run_exist() -> None:
    for line in (CONTRIB / "systemd" / "gworker@.service").read_text().splitlines():
        for command in re.findall(r"/usr/local/bin/gworker (\S+)", line):
            assert command in COMMANDS


def test_the_service_unit() -> None:
    service = unit("gworker@.service")["Service"]
    assert service["Type"] == "notify-reload"
    assert service["KillMode"] == "mixed", "only the arbiter is told to stop; it tells its processes"
    (grace,) = (option.default for option in OPTIONS if option.name == "graceful-timeout")
    assert isinstance(grace, float)
    assert float(service["TimeoutStopSec"]) > grace
    assert f"%t/{service['RuntimeDirectory']}" in service["ExecStart"]
    assert unit("gworker@.socket")["Socket"]["Accept"] == "no"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze(1)")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for name in ("gworker@.service", "gworker@.socket"):
        text = (CONTRIB / "systemd" / name).read_text()
        # What an installation brings: the command and the user; and systemd before 253 does not know notify-reload.
        text = text.replace("/usr/local/bin/gworker", "/bin/true").replace("=gworker\n", "=root\n")
        (tmp_path / name).write_text(text.replace("Type=notify-reload", "Type=notify"))
    units = [str(tmp_path / name) for name in ("gworker@.service", "gworker@.socket")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    assert complaints == []


def test_kubernetes_waits_longer_than_gworker(monkeypatch: pytest.MonkeyPatch) -> None:
    yaml = pytest.importorskip("yaml")
    documents: list[dict[str, Any]] = list(yaml.safe_load_all((CONTRIB / "kubernetes" / "kubernetes.yaml").read_text()))
    assert [each["kind"] for each in documents] == ["Deployment", "Service", "PodDisruptionBudget"]
    pod = documents[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    arguments = container["args"]
    grace = int(arguments[arguments.index("--graceful-timeout") + 1])
    (_, before) = container["lifecycle"]["preStop"]["exec"]["command"]
    assert pod["terminationGracePeriodSeconds"] >= int(before) + grace + 5
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert documents[1]["spec"]["selector"] == documents[0]["spec"]["template"]["metadata"]["labels"]


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("bash", ["-n", "completions/gworker.bash"]),
        ("zsh", ["-n", "completions/_gworker"]),
        ("fish", ["-n", "completions/gworker.fish"]),
        ("haproxy", ["-c", "-f", "haproxy/haproxy.cfg"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_syntax(program: str, arguments: list[str]) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"no {program} here")
    done = subprocess.run([program, *arguments], cwd=CONTRIB, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def completions() -> Any:
    specification = importlib.util.spec_from_file_location("make_completions", CONTRIB / "completions" / "make.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # its dataclass looks itself up there
    specification.loader.exec_module(module)
    return module


def test_the_completions_are_current() -> None:
    assert completions().main(["--check"]) == 0, "run contrib/completions/make.py"


def test_the_completions_notice_a_new_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = completions()
    monkeypatch.setattr(module, "HERE", tmp_path)
    assert module.main(["--check"]) == 1
    assert module.main([]) == 0
    assert module.main(["--check"]) == 0
    texts = {name: (tmp_path / name).read_text() for name in ("gworker.bash", "_gworker", "gworker.fish")}
    for text in texts.values():
        assert all(command in text for command in COMMANDS)
    assert all(f"--{option.name}" in texts["gworker.bash"] for option in OPTIONS)
    assert all(f"-l {option.name} " in texts["gworker.fish"] for option in OPTIONS)


def test_bash_completes(tmp_path: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    (tmp_path / "app.py").write_text("")
    script = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _gworker; echo "${COMPREPLY[@]}"'

    def complete(*words: str) -> str:
        command = ["bash", "-c", script, "bash", str(CONTRIB / "completions" / "gworker.bash"), "gworker", *words]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
        ).stdout.strip()

    assert complete("st") == "start stop status"
    assert complete("a") == "app.py"
    assert complete("reload", "--n") == "--no-wait --name"
    assert complete("app.py", "--rel") == "--reload --reload-extra"
    assert complete("app.py", "--log-level", "w") == "warning"
    assert complete("app.py", "-w", "") == ""
