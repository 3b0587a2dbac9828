"""The files around an instance are about this gworker, and the programs that they are for
understand them.

What proxies and logrotate do with them is in integration/test_contrib.py.
"""

from __future__ import annotations

import configparser
import getpass
import grp
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import places
import pytest

from gworker.cli.command_table import COMMANDS
from gworker.config.options import OPTIONS

ROOT = places.ROOT
CONTRIB = ROOT / "contrib"
DOCUMENTED = [
    path
    for path in sorted(CONTRIB.rglob("*"))
    if path.is_file() and path.suffix not in (".py", ".pyc")
]
FLAGS = {flag for option in OPTIONS for flag in option.flags} | {
    "--help",
    "--version",
    "--quick",
    "--no-wait",
    "--json",
    "--worker",
}
FOREIGN = {
    *("--now",),  # systemctl
    *("--read-only", "--tmpfs", "--time", "--build-arg"),  # docker
    *(
        "--from",
        "--interval",
        "--timeout",
        "--start-period",
        "--retries",
        "--no-cache-dir",
    ),  # Dockerfile, pip
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
    assert service["Type"] == "notify", (
        "systemd 252 ignores notify-reload, and takes the service for ready at once"
    )
    assert service["ExecReload"].split()[1] == "reload"
    assert f"%t/{service['RuntimeDirectory']}" in service["ExecReload"]
    assert service["KillMode"] == "mixed", (
        "only the arbiter is told to stop; it tells its processes"
    )
    (grace,) = (option.default for option in OPTIONS if option.name == "graceful-timeout")
    assert isinstance(grace, float)
    assert float(service["TimeoutStopSec"]) > grace
    assert f"%t/{service['RuntimeDirectory']}" in service["ExecStart"]
    assert unit("gworker@.socket")["Socket"]["Accept"] == "no"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze(1)")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for name in ("gworker@.service", "gworker@.socket"):
        text = (CONTRIB / "systemd" / name).read_text()
        # What an installation brings: the command and the user.
        text = text.replace("/usr/local/bin/gworker", "/bin/true").replace("=gworker\n", "=root\n")
        (tmp_path / name).write_text(text)
    units = [str(tmp_path / name) for name in ("gworker@.service", "gworker@.socket")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    assert complaints == []


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="needs systemd-sysusers(8)")
def test_systemd_understands_the_line_of_the_user() -> None:
    path = CONTRIB / "systemd" / "gworker.sysusers.conf"
    done = subprocess.run(
        ["systemd-sysusers", "--dry-run", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if path.name in line]) == (
        0,
        [],
    )
    service = unit("gworker@.service")["Service"]
    assert re.findall(r"^u (\S+)", path.read_text(), re.MULTILINE) == [service["User"]]
    assert re.findall(r"^m \S+ (\S+)", path.read_text(), re.MULTILINE) == [service["Group"]]


# ---- containers

DOCKERFILE = (CONTRIB / "docker" / "Dockerfile").read_text()
APP = "contrib/docker/app"


def copied(stage: int) -> list[tuple[list[str], str]]:
    """What a stage of the Dockerfile copies from the checkout: sources, and where to."""
    text = DOCKERFILE.split("\nFROM ")[stage + 1]
    words = [
        line.split()[1:]
        for line in text.splitlines()
        if line.startswith("COPY") and "--from" not in line
    ]
    return [
        ([each.replace("${APP}", APP) for each in sources], target) for *sources, target in words
    ]


def instruction(name: str) -> list[str]:
    """The JSON form of CMD or ENTRYPOINT, or of what HEALTHCHECK runs."""
    pattern = rf"^{name} .*CMD (\[.*\])$" if name == "HEALTHCHECK" else rf"^{name} (\[.*\])$"
    (found,) = re.findall(pattern, DOCKERFILE, re.MULTILINE)
    words: list[str] = json.loads(found)
    return words


def test_the_image_is_made_of_what_is_in_the_checkout() -> None:
    assert f"ARG APP={APP}\n" in DOCKERFILE
    sources = [each for stage in (0, 1) for sources, _ in copied(stage) for each in sources]
    assert [each for each in sources if not (ROOT / each).exists()] == []
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg")
    needed = {"pyproject.toml", "setup.cfg", metadata["metadata"]["license_files"], "gworker"}
    needed.add(metadata["metadata"]["long_description"].removeprefix("file: "))
    assert needed <= set(sources)


def can_serve(arguments: list[str], directory: Path) -> bool:
    """Whether `gworker` with these arguments would start in `directory`."""
    done = subprocess.run(
        [sys.executable, "-m", "gworker", "check", *arguments], cwd=directory, capture_output=True,
        text=True,
        timeout=60, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return "http://0.0.0.0:8000" in done.stdout


def test_the_command_of_the_image_serves_what_is_in_it(tmp_path: Path) -> None:
    shutil.copytree(ROOT / APP, tmp_path / "app")
    assert instruction("ENTRYPOINT") == ["gworker"]
    assert can_serve(instruction("CMD"), tmp_path / "app")
    assert instruction("HEALTHCHECK") == ["gworker", "health"]


def has_image(name: str) -> bool:
    if shutil.which("docker") is None:
        return False
    found = subprocess.run(
        ["docker", "image", "inspect", name], capture_output=True, timeout=60, check=False
    )
    return found.returncode == 0


@pytest.mark.timeout(600)
@pytest.mark.skipif(
    not has_image("python:3.13-slim"), reason="needs a Docker daemon that has python:3.13-slim"
)
def test_docker_builds_the_image() -> None:
    command = ["docker", "build", "-q", "-f", "contrib/docker/Dockerfile", "."]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    subprocess.run(
        ["docker", "rmi", done.stdout.strip()], capture_output=True, timeout=60, check=False
    )


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    """What is in kubernetes.yaml."""
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all((CONTRIB / "kubernetes" / "kubernetes.yaml").read_text()))


def default(name: str) -> float:
    (found,) = (option.default for option in OPTIONS if option.name == name)
    assert isinstance(found, float)
    return found


def test_kubernetes_probes_by_health(documents: list[dict[str, Any]], tmp_path: Path) -> None:
    (container,) = documents[0]["spec"]["template"]["spec"]["containers"]
    probes = {name: container[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
    for probe in probes.values():
        assert probe["exec"]["command"] == ["gworker", "health"]
        assert probe["timeoutSeconds"] >= 10, "longer than the command waits for its answer"
    patience = {
        name: probe["periodSeconds"] * probe["failureThreshold"] for name, probe in probes.items()
    }
    assert patience["startup"] > default("boot-timeout")
    assert patience["liveness"] > default("timeout") + 10, (
        "gworker replaces what hangs before Kubernetes does"
    )
    shutil.copytree(ROOT / APP, tmp_path / "app")
    assert can_serve(
        [each.replace("/uploads", str(tmp_path)) for each in container["args"]], tmp_path / "app"
    )


def test_kubernetes_has_room_for_uploads(documents: list[dict[str, Any]]) -> None:
    pod = documents[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (directory,) = (
        each.partition("=")[2] for each in container["args"] if each.startswith("--upload-dir=")
    )
    (name,) = (each["name"] for each in container["volumeMounts"] if each["mountPath"] == directory)
    (volume,) = (each["emptyDir"] for each in pod["volumes"] if each["name"] == name)
    assert volume == {"sizeLimit": "2Gi"}, "on the disk, and many times --max-package-size"


def test_kubernetes_waits_longer_than_gworker(documents: list[dict[str, Any]]) -> None:
    assert [each["kind"] for each in documents] == ["Deployment", "Service", "PodDisruptionBudget"]
    pod = documents[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (grace,) = (
        int(each.partition("=")[2])
        for each in container["args"]
        if each.startswith("--graceful-timeout=")
    )
    (_, before) = container["lifecycle"]["preStop"]["exec"]["command"]
    assert pod["terminationGracePeriodSeconds"] >= int(before) + grace + 5
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert (
        documents[1]["spec"]["selector"] == documents[0]["spec"]["template"]["metadata"]["labels"]
    )


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("haproxy", ["-c", "-f", "haproxy/haproxy.cfg"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_syntax(program: str, arguments: list[str]) -> None:
    needs(program)
    done = subprocess.run(
        [program, *arguments], cwd=CONTRIB, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def test_nginx_understands_its_configuration(tmp_path: Path) -> None:
    needs("nginx")
    text = (CONTRIB / "nginx" / "nginx.conf").read_text()
    (tmp_path / "nginx.conf").write_text(text.replace("/run/nginx.pid", f"{tmp_path}/pid"))
    done = subprocess.run(
        ["nginx", "-t", "-q", "-e", "stderr", "-c", str(tmp_path / "nginx.conf")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_nginx_waits_for_long_only_where_silence_is_usual() -> None:
    text = (CONTRIB / "nginx" / "nginx.conf").read_text()
    locations = dict(re.findall(r"location (\S+) \{(.*?)\n        \}", text, re.DOTALL))
    patient = {path for path, body in locations.items() if re.search(r"timeout 1h;", body)}
    assert patient == {"/ws", "/events"}
    assert (
        text.count("timeout 1h;")
        == sum(body.count("timeout 1h;") for body in locations.values()) + 1
    ), "the comment"
    assert "Upgrade $http_upgrade" in locations["/ws"]
    assert "proxy_buffering off" in locations["/events"]


def test_the_connections_of_haproxy_fit_into_its_descriptors() -> None:
    text = (CONTRIB / "haproxy" / "haproxy.cfg").read_text()
    (most,) = re.findall(r"^ +maxconn (\d+)$", text, re.MULTILINE)
    others = 100  # listeners, checks, a log, pipes
    assert 2 * int(most) + others <= 20_000


def test_logrotate_understands_its_configuration(tmp_path: Path) -> None:
    needs("logrotate")
    text = (CONTRIB / "logrotate" / "gworker").read_text()
    (owner,) = re.findall(r"create \d+ (\w+ \w+)", text)
    assert owner == "{User} {Group}".format(**unit("gworker@.service")["Service"])
    # The user that an installation brings.
    ours = f"{getpass.getuser()} {grp.getgrgid(os.getegid()).gr_name}"
    path = tmp_path / "gworker"
    path.write_text(text.replace(owner, ours).replace("/var/log/gworker", str(tmp_path)))
    path.chmod(0o644)
    (tmp_path / "chat.log").write_text("a line\n")
    done = subprocess.run(
        ["logrotate", "-d", "-s", str(tmp_path / "state"), str(path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "error:" not in done.stderr
    assert f"considering log {tmp_path}/chat.log" in done.stderr
    assert f"/var/log/{unit('gworker@.service')['Service']['LogsDirectory']}/*.log" in text


# ---- completions


@pytest.fixture
def completions(tmp_path: Path) -> Callable[[str], Path]:
    """The file that is made for a shell."""
    pytest.importorskip("shtab")

    def make(shell: str) -> Path:
        path = tmp_path / f"completions.{shell}"
        command = [sys.executable, str(CONTRIB / "completions.py"), shell]
        path.write_bytes(
            subprocess.run(command, capture_output=True, timeout=60, check=True).stdout
        )
        return path

    return make


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_completions_have_all_commands_and_options(
    completions: Callable[[str], Path], shell: str
) -> None:
    text = completions(shell).read_text()
    assert all(command in text for command in COMMANDS)
    assert all(option.name in text for option in OPTIONS)
    if shell != "tcsh":  # which has no way to check a script
        needs(shell)
        subprocess.run([shell, "-n", str(completions(shell))], timeout=60, check=True)


def test_bash_completes(completions: Callable[[str], Path]) -> None:
    needs("bash")
    script = completions("bash")
    # Programmable completion is for a shell in a terminal: what it would show is asked for here.
    program = (
        f'source {script}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_gworker 2>/dev/null; '
        'echo "${COMPREPLY[@]}"'
    )

    def complete(*words: str) -> str:
        return subprocess.run(
            ["bash", "-c", program, "bash", "gworker", *words],
            cwd=script.parent, capture_output=True, text=True, timeout=60, check=True,
        ).stdout.strip()  # fmt: skip

    assert complete("st") == "start stop status"
    assert set(complete("reload", "--n").split()) == {"--no-wait", "--name"}
    assert complete("he") == "health"
    assert complete("health", "--w") == "--worker"
    assert complete("app.py", "--rel") == "--reload --reload-extra"
    assert complete("app.py", "--log-level", "w") == "warning"
    assert complete("app.py", "-w", "") == ""
    (script.parent / "app.py").write_text("")
    assert complete("start", "ap") == "app.py"
    assert complete("ap") == ""
    assert "complete -o bashdefault -o default -F" in script.read_text(), "then it takes files"


def test_fish_completes(completions: Callable[[str], Path]) -> None:
    needs("fish")
    script = completions("fish")
    (script.parent / "app.py").write_text("")

    def complete(words: str) -> set[str]:
        program = f"source {script}; complete -C{shlex.quote(words)}"
        done = subprocess.run(
            ["fish", "-c", program],
            cwd=script.parent, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return {line.partition("\t")[0] for line in done.stdout.splitlines()}

    assert "health" in complete("gworker he")
    assert complete("gworker health --w") == {"--worker"}
    assert complete("gworker reload --no") == {"--no-wait"}
    assert complete("gworker ap") == complete("gworker start ap") == {"app.py"}
