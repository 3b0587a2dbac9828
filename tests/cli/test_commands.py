"""The command line against a fake arbiter: real processes, real sockets, invented answers."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import places
import pytest
from unix_listener import listening_at

import gworker.cli as cli_package
from gworker.cli import command_table, commands, control_client, main
from gworker.cli.control_client import Connection, ControlError, Gone
from gworker.cli.instances import Instance, NotRunning
from gworker.config.settings import Settings
from gworker.errors import ConfigError
from gworker.master.runtime_files import RuntimeFiles
from gworker.master.systemd import Invocation
from gworker.system.daemon import Launch
from gworker.system.peer_address import Credentials
from gworker.version import __version__

ARBITER = places.program("fake_arbiter")

STATUS: dict[str, Any] = {
    "name": "shop",
    "version": "0.1.0",
    "state": "running",
    "generation": 1,
    "arbiter": {"pid": 1, "uptime": 1.0, "rss": 1, "cpu_percent": 0.0},
    "workers": [
        {
            "worker": "chat",
            "id": 0,
            "pid": 5,
            "listen": "tcp://127.0.0.1:1",
            "state": "ready",
            "rss": 20 << 20,
        }
    ],
    "totals": {"connections": 7},
    "exits": [],
    "last_reload": None,
}


class Arbiters:
    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, answers: str, name: str = "shop", pid_file: str = "") -> subprocess.Popen[str]:
        arguments = [self.directory, name, pid_file, textwrap.dedent(answers)]
        process = subprocess.Popen([*ARBITER, *arguments], stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def arbiters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Arbiters]:
    made = Arbiters(str(tmp_path / "gworker"))
    monkeypatch.setenv("GWORKER_RUNTIME_DIR", made.directory)
    yield made
    made.end()


@pytest.fixture
def gworker(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process: exit code, stdout, stderr."""

    def run(*argv: str) -> tuple[int, str, str]:
        try:
            code = main.main(argv)
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        finally:
            gc.enable()
        return code, *capsys.readouterr()

    return run


Run = Callable[..., tuple[int, str, str]]


class Server(types.ModuleType):
    """In place of gworker.cli.serve and gworker.cli.check: notes what it is given."""

    def __init__(self) -> None:
        super().__init__("gworker.cli.serve")
        self.served: list[Settings] = []
        self.checked: list[Settings] = []
        self.result: int | Exception = 0

    def serve(
        self, settings: Settings, launch: Launch, invocation: Invocation, document: object
    ) -> int:
        self.served.append(settings)
        self.launch = launch
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def check(self, settings: Settings, as_json: bool) -> int:
        self.checked.append(settings)
        return 4


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    for name in ("serve", "check"):
        monkeypatch.setitem(sys.modules, f"gworker.cli.{name}", made)
        monkeypatch.setattr(cli_package, name, made, raising=False)
    return made


# The words of the command line


@pytest.mark.parametrize(
    ("line", "name", "options", "words"),
    [
        ("chat", "start", "", "chat"),
        ("start chat", "start", "", "chat"),
        ("-w 4 chat", "start", "-w 4", "chat"),
        ("chat -w 4", "start", "-w 4", "chat"),
        ("-w 4 start chat", "start", "-w 4", "chat"),
        ("-dw 4 start chat", "start", "-dw 4", "chat"),
        ("-dw4 start chat", "start", "-dw4", "chat"),
        ("-w4 start chat", "start", "-w4", "chat"),
        ("--workers=4 start chat", "start", "--workers=4", "chat"),
        ("-n stop chat", "start", "-n stop", "chat"),
        ("--name stop stop", "stop", "--name stop", ""),
        ("start stop", "start", "", "stop"),
        ("stop chat --quick", "stop", "--quick", "chat"),
        ("--quick stop chat", "stop", "--quick", "chat"),
        ("--worker status connections", "connections", "--worker status", ""),
        ("-- status", "start", "", "status"),
        ("-d -- status", "start", "-d", "status"),
        ("start -- -x", "start", "", "-x"),
        ("--pid -- chat", "start", "--pid --", "chat"),
        ("chat stop", "start", "", "chat stop"),
        ("scale -n x chat --pid y 4", "scale", "-n x --pid y", "chat 4"),
        ("status", "status", "", ""),
        ("start", "start", "", ""),
        ("-d", None, "-d", ""),
        ("--", None, "", ""),
        ("-w", None, "-w", ""),
        ("", None, "", ""),
    ],
)
def test_which_command(line: str, name: str | None, options: str, words: str) -> None:
    assert main.split(line.split()) == (name, options.split(), words.split())


def test_nothing_prints_help_and_is_wrong_usage(gworker: Run) -> None:
    code, out, err = gworker()
    assert (code, out) == (2, "")
    assert all(f"  {name} " in err for name in command_table.COMMANDS)
    assert len(err.splitlines()) < 24, "the options push it off the screen"


def test_help_and_version(gworker: Run) -> None:
    for argv in (["-h"], ["--help"], ["stop", "-h"], ["start", "--help"], ["chat", "-h"]):
        code, out, err = gworker(*argv)
        assert (code, err) == (0, "")
        assert out.startswith("usage: gworker")
        assert "--script" not in out
    for argv in (["-V"], ["--version"], ["status", "-V"]):
        assert gworker(*argv) == (0, f"gworker {__version__}\n", "")


@pytest.mark.parametrize(
    "argv",
    [
        ["-d"],
        ["start"],
        ["restart", "-d"],
        ["chat", "extra"],
        ["--nonsense"],
        ["stop", "a", ""],
        ["-z", "chat"],
        ["--", "-d", "x"],
        ["status", "--workers", "1"],
        ["status", "--jso"],
        ["list", "chat"],
        ["scale", "chat"],
        ["scale", "chat", "many"],
        ["scale", "chat", "0"],
        ["connections", "--limit", "x"],
    ],
)
def test_wrong_usage(gworker: Run, argv: list[str], server: Server) -> None:
    code, out, err = gworker(*argv)
    assert (code, out) == (2, "")
    complaint, advice = err.splitlines()
    assert "error:" in complaint
    assert advice.endswith("--help` shows what there is")
    assert server.served == []


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["status", "--jso"], "unrecognized arguments: --jso; did you mean --json?"),
        (["--wrkers=3", "app"], "unrecognized arguments: --wrkers=3; did you mean --workers?"),
        (["reload", "--no-wiat", "x"], "did you mean --no-wait?"),
        (["app", "--preload"], "unrecognized arguments: --preload\n"),
        (["app", "--worker", "3"], "unrecognized arguments: --worker; did you mean --workers?"),
        (["strat", "app"], "error: there is no command 'strat'; did you mean start?"),
        (
            ["--script", "/app/start.py", "{}", "stauts"],
            "error: there is no command 'stauts'; did you mean status?",
        ),
        (["--script", "/app/start.py", "{}", "x"], "error: there is no command 'x'\n"),
        (["stop", "-g", "--quick"], "not allowed with argument -g"),
    ],
)
def test_typing_errors(gworker: Run, argv: list[str], words: str) -> None:
    code, _, err = gworker(*argv)
    assert code == 2
    assert words in err


# start, restart, check


@pytest.mark.parametrize(
    "line",
    [
        "chat:h -w 3 -b tcp://:1",
        "-w 3 chat:h -b tcp://:1",
        "-w 3 -b tcp://:1 start chat:h",
        "start -w 3 chat:h -b tcp://:1",
    ],
)
def test_start_with_options_anywhere(gworker: Run, server: Server, line: str) -> None:
    assert gworker(*line.split())[0] == 0
    (settings,) = server.served
    assert (settings.target, settings.name, settings.workers, settings.bind) == (
        "chat:h",
        "chat:h",
        3,
        ("tcp://:1",),
    )
    assert not settings.script


def test_a_target_called_like_a_command(gworker: Run, server: Server) -> None:
    gworker("start", "status")
    gworker("--", "list")
    assert [settings.target for settings in server.served] == ["status", "list"]


def test_script_is_passed_on(gworker: Run, server: Server) -> None:
    gworker("start", "--script", "start.py", "-w", "2")
    assert server.served[0].script


def test_a_config_error_is_one_line(gworker: Run, server: Server) -> None:
    server.result = ConfigError("port 80 is taken")
    assert gworker("chat") == (1, "", "gworker: error: port 80 is taken\n")


@pytest.mark.parametrize("options", [[], ["-d"], ["-w", "2", "--name", "x"]])
def test_a_script_without_a_command_shows_its_usage(
    gworker: Run,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    options: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = gworker("--script", str(tmp_path / "start.py"), "{}", *options)
    assert (code, out) == (2, "")
    assert err.startswith("usage: python start.py COMMAND [options]\n")
    assert all(f"  {name} " in err for name in command_table.COMMANDS)
    assert server.served == []


def test_help_of_a_script_names_it(
    gworker: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for argv, usage in ([], "COMMAND"), (["stop"], "stop"):
        code, out, _ = gworker("--script", str(tmp_path / "start.py"), "{}", *argv, "--help")
        assert code == 0
        assert "[TARGET]" not in out
        assert out.startswith(f"usage: python start.py {usage} [")
    code, _, err = gworker("--script", "/elsewhere/start.py", "{}", "stop", "--nonsense")
    assert code == 2
    assert err.startswith("python /elsewhere/start.py stop: error: ")


@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("restart -d -g app", {"daemon": True, "g": True}),
        ("restart -g -d app", {"daemon": True, "g": True}),
        ("restart -dg app", {"daemon": True, "g": True}),
        ("stop -g", {"quick": False, "g": True}),
        ("reload -g", {"g": True}),
        ("status -d", {"watch": True}),
    ],
)
def test_options_of_workerman(line: str, given: dict[str, bool]) -> None:
    name, options, words = main.split(line.split())
    assert name is not None
    found = vars(main.parser_of(name).parse_args([*options, "--", *words] if words else options))
    assert {key: found[key] for key in given} == given


def test_any_other_error_is_loud(server: Server) -> None:
    server.result = ZeroDivisionError("oops")
    with pytest.raises(ZeroDivisionError):
        main.main(["chat"])


def test_the_exit_code_is_the_servers(gworker: Run, server: Server) -> None:
    server.result = 5
    assert gworker("chat")[0] == 5


DAEMON = places.program("starts_daemon")


@pytest.mark.parametrize(
    ("action", "code", "out", "err"),
    [
        ("launch.ready('ready: 2 processes')", 0, "ready: 2 processes\n", ""),
        ("raise ConfigError('port 80 is taken')", 1, "", "gworker: error: port 80 is taken\n"),
        ("launch.failed('Traceback ...')", 1, "", "Traceback ...\n"),
        ("1/0", 1, "", "ZeroDivisionError: division by zero\n\n"),
    ],
)
def test_start_as_daemon(action: str, code: int, out: str, err: str) -> None:
    done = subprocess.run(
        [*DAEMON, action],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, out)
    assert done.stderr.endswith(err)


def test_a_log_of_output_that_cannot_be_written(tmp_path: Path) -> None:
    path = str(tmp_path / "no" / "out")
    done = subprocess.run(
        [*DAEMON, "1/0", "--stdout-file", path],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        1,
        f"gworker: error: cannot write {path}: No such file or directory\n",
    )


def test_restart_of_what_does_not_run_starts(
    gworker: Run, server: Server, arbiters: Arbiters
) -> None:
    assert gworker("restart", "chat", "-w", "2")[0] == 0
    assert server.served[0].workers == 2


def test_restart_stops_first(gworker: Run, server: Server, arbiters: Arbiters) -> None:
    arbiter = arbiters.start("def answer(call):\n  call.send({'timeout': 5})\n  quit()")
    code, out, _ = gworker("restart", "shop", "-w", "2")
    assert (code, out) == (0, "shop stopped\n")
    assert arbiter.wait(5) == 0
    assert server.served[0].workers == 2


def test_restart_does_not_start_what_does_not_stop(
    gworker: Run, server: Server, arbiters: Arbiters
) -> None:
    arbiters.start("def answer(call):\n  call.finish(1, error='busy')")
    assert gworker("restart", "shop") == (1, "", "gworker: error: busy\n")
    assert server.served == []


def test_check(gworker: Run, server: Server) -> None:
    assert gworker("check", "chat", "--umask", "7")[0] == 4
    assert server.checked[0].umask == 7


# Settings from a file


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "argv", [[], ["start"], ["-w", "3"], ["-c", "gworker.toml"], ["start", "-c", "gworker.toml"]]
)
def test_a_target_from_the_file(gworker: Run, server: Server, here: Path, argv: list[str]) -> None:
    (here / "gworker.toml").write_text("target = 'chat'\nworkers = 2")
    assert gworker(*argv)[0] == 0
    (settings,) = server.served
    assert (settings.target, settings.workers) == ("chat", 3 if "-w" in argv else 2)


def test_a_target_from_the_environment(
    gworker: Run, server: Server, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GWORKER_TARGET", "chat")
    assert gworker()[0] == 0
    assert gworker("check")[0] == 4
    assert gworker("other")[0] == 0
    assert [each.target for each in (*server.served, *server.checked)] == ["chat", "other", "chat"]


@pytest.mark.parametrize(
    "argv", [[], ["chat"], ["-w", "1"], ["check", "chat"], ["restart", "chat"]]
)
def test_a_file_that_is_wrong(gworker: Run, server: Server, here: Path, argv: list[str]) -> None:
    (here / "gworker.toml").write_text("wrokers = 2")
    expected = (
        f"gworker: error: {here}/gworker.toml: unknown key 'wrokers'; did you mean workers?\n"
    )
    assert gworker(*argv) == (1, "", expected)
    assert server.served == server.checked == []


@pytest.mark.parametrize(
    "argv", [["--check", "chat"], ["chat", "--check", "-w", "2"], ["start", "chat", "--check"]]
)
def test_check_as_an_option(gworker: Run, server: Server, argv: list[str]) -> None:
    assert gworker(*argv)[0] == 4
    assert server.checked[0].target == "chat"
    assert server.served == []


def test_print_config_starts_nothing(gworker: Run, server: Server, here: Path) -> None:
    (here / "gworker.toml").write_text("workers = 2")
    for argv in (["--print-config"], ["chat", "--print-config"], ["start", "-d", "--print-config"]):
        code, out, err = gworker(*argv)
        assert (code, err) == (0, "")
        assert f"workers = 2  # {here}/gworker.toml" in out.splitlines()
    assert server.served == server.checked == []


def test_the_instance_is_found_by_the_file(
    gworker: Run, arbiters: Arbiters, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("shop", "other"):
        arbiters.start(
            f"def answer(call): call.send({{'status': {{'is': {name!r}}}}}); call.finish(0)", name
        )
    (here / "gworker.toml").write_text("target = 'app'\nname = 'shop'\nnonsense = 1")
    for argv in ([], ["app"], ["shop"]):
        assert json.loads(gworker("status", "--json", *argv)[1]) == {"is": "shop"}
    assert json.loads(gworker("status", "--json", "other")[1]) == {"is": "other"}
    assert gworker("status", "gone") == (3, "", "gworker: gone is not running\n")
    monkeypatch.setenv("GWORKER_NAME", "other")
    assert json.loads(gworker("status", "--json")[1]) == {"is": "other"}
    monkeypatch.delenv("GWORKER_NAME")
    (here / "gworker.toml").write_text("name =")
    code, out, err = gworker("list")
    assert (code, "shop" in out) == (0, True)
    assert err.endswith("; going on without this file\n")


def test_the_settings_in_force(gworker: Run, arbiters: Arbiters) -> None:
    rows = [["target", "chat", "command line"], ["workers", 2, "x.toml"]]
    answer = {"rows": rows, "pending": ["name"]}
    arbiters.start(f"def answer(call): call.send({{'settings': {answer!r}}}); call.finish(0)")
    expected = (
        'target = "chat"  # command line\nworkers = 2  # x.toml\n# restart needed for: name\n'
    )
    assert gworker("status", "--settings") == (0, expected, "")
    found = json.loads(gworker("status", "--settings", "--json")[1])
    assert found["settings"][1] == {"name": "workers", "value": 2, "origin": "x.toml"}
    assert found["pending"] == ["name"]


# commands for a running instance


@pytest.mark.parametrize(
    "argv",
    [
        ["stop"],
        ["reload"],
        ["status"],
        ["status", "--json"],
        ["connections"],
        ["scale", "chat", "2"],
        ["status", "--watch"],
    ],
)
def test_not_running(gworker: Run, arbiters: Arbiters, argv: list[str]) -> None:
    assert gworker(*argv) == (3, "", "gworker: no instance is running\n")
    assert gworker(*argv, "--name", "shop") == (3, "", "gworker: shop is not running\n")


def test_named_in_every_way(gworker: Run, arbiters: Arbiters, tmp_path: Path) -> None:
    pid_file = str(tmp_path / "x.pid")
    arbiters.start(
        "def answer(call): call.send({'status': {'is': 'a'}}); call.finish(0)", "a:b", pid_file
    )
    arbiters.start("def answer(call): call.send({'status': {'is': 'c'}}); call.finish(0)", "c")
    for argv in (["a:b"], ["--name", "a:b"], ["-n", "a:b", "target"], ["--pid", pid_file]):
        code, out, _ = gworker("status", "--json", *argv)
        assert (code, json.loads(out)) == (0, {"is": "a"})
    elsewhere = ["--runtime-dir", str(tmp_path / "other")]
    assert gworker("status", "--json", *elsewhere, "--pid", pid_file)[0] == 0
    assert gworker("status", "--json", *elsewhere)[0] == 3
    code, _, err = gworker("status")
    assert code == 1
    assert "several instances run" in err


def test_status(gworker: Run, arbiters: Arbiters) -> None:
    arbiters.start(f"def answer(call): call.send({{call.command: {STATUS!r}}}); call.finish(0)")
    code, out, err = gworker("status", "--json")
    assert (code, json.loads(out), err) == (0, STATUS, "")
    code, out, err = gworker("status")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "shop  gworker 0.1.0  running  generation 1"
    assert "tcp://127.0.0.1:1" in out


def test_an_answer_that_is_none(gworker: Run, arbiters: Arbiters) -> None:
    arbiters.start("def answer(call): call.finish(1, error='unknown command')")
    assert gworker("status") == (1, "", "gworker: error: unknown command\n")


def test_a_handler_that_fails(gworker: Run, arbiters: Arbiters) -> None:
    arbiters.start("def answer(call): 1/0")
    assert gworker("status") == (1, "", "gworker: error: ZeroDivisionError: division by zero\n")


def test_watch_goes_on_until_interrupted(arbiters: Arbiters) -> None:
    arbiters.start(f"def answer(call): call.send({{call.command: {STATUS!r}}}); call.finish(0)")
    watching = subprocess.Popen(
        [sys.executable, "-m", "gworker", "status", "--watch"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    headers = 0
    while headers < 2:
        headers += watching.stdout.readline().startswith("shop  gworker")
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=10)
    assert (watching.returncode, err) == (0, "")


def test_a_reader_that_leaves_is_no_traceback(arbiters: Arbiters) -> None:
    many = {**STATUS, "workers": STATUS["workers"] * 3000}
    (Path(arbiters.directory).parent / "many").write_text(json.dumps(many))
    path = str(Path(arbiters.directory).parent / "many")
    arbiters.start(
        f"def answer(call): call.send({{'status': json.load(open({path!r}))}}); call.finish(0)"
    )
    # Unbuffered, a write that is cut short would not be noticed.
    command = f"unset PYTHONUNBUFFERED; {sys.executable} -m gworker status | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout.startswith("shop  gworker")
    assert done.stderr == ""


@pytest.mark.parametrize("wait", [True, False])
def test_reload_shows_each_step(gworker: Run, arbiters: Arbiters, wait: bool) -> None:
    answers = """
    def answer(call):
        call.send({"step": f"{call.command} wait={call.arguments['wait']}"})
        call.send({"step": "chat#0 ready"})
        call.finish(0)
    """
    arbiters.start(answers)
    argv = ["reload"] if wait else ["reload", "--no-wait"]
    assert gworker(*argv) == (0, f"reload wait={wait}\nchat#0 ready\n", "")


def test_a_refused_reload(gworker: Run, arbiters: Arbiters) -> None:
    arbiters.start(
        "def answer(call): call.send({'step': 'probe'}); call.finish(1, error='SyntaxError: x')"
    )
    assert gworker("reload") == (1, "probe\n", "gworker: error: SyntaxError: x\n")


def test_an_arbiter_that_dies_in_between(gworker: Run, arbiters: Arbiters) -> None:
    arbiters.start("def answer(call): call.send({'step': 'probe'}); os._exit(1)")
    code, out, err = gworker("reload")
    assert (code, out) == (1, "probe\n")
    assert "closed the connection" in err


def test_scale(gworker: Run, arbiters: Arbiters) -> None:
    arbiters.start(
        "def answer(call): call.send({'step': str(sorted(call.arguments.items()))}); call.finish(0)"
    )
    expected = "[('count', 4), ('worker', 'chat')]\n"
    for argv in (
        ["chat", "4"],
        ["shop", "chat", "4"],
        ["--name", "shop", "chat", "4"],
        ["chat", "-n", "shop", "4"],
    ):
        assert gworker("scale", *argv) == (0, expected, "")


CONNECTIONS = "def answer(call): send_connections(call, {missing})"


def test_connections_of_all_processes(gworker: Run, arbiters: Arbiters) -> None:
    arbiters.start(CONNECTIONS.format(missing=[]))
    before = len(os.listdir("/proc/self/fd"))
    code, out, err = gworker("connections", "--json")
    assert (code, err) == (0, "")
    assert [(row["pid"], row["id"]) for row in json.loads(out)] == [
        (10, 1),
        (10, 2),
        (20, 1),
        (20, 2),
    ]
    assert len(json.loads(gworker("connections", "--json", "--limit", "3")[1])) == 3
    lines = gworker("connections", "--worker", "chat")[1].splitlines()
    assert len(lines) == 5
    assert lines[1].split()[:3] == ["10", "chat", "1"]
    assert len(os.listdir("/proc/self/fd")) == before


def test_processes_that_do_not_answer_are_named(gworker: Run, arbiters: Arbiters) -> None:
    arbiters.start(CONNECTIONS.format(missing=[40, 41]))
    code, out, err = gworker("connections", "--json")
    assert (code, len(json.loads(out))) == (0, 4)
    assert err == "gworker: note: no answer from process 40, 41: its connections are not listed\n"


def test_list(gworker: Run, arbiters: Arbiters) -> None:
    assert gworker("list") == (0, "no instance is running\n", "")
    who = (
        "{'name': 'a:b', 'pid': os.getpid(), 'target': 'a:b', 'version': '9', 'generation': 3, "
        "'workers': 2}"
    )
    one = arbiters.start(f"def answer(call): call.send({{'who': {who}}}); call.finish(0)", "a:b")
    two = arbiters.start("no_socket = True\ndef answer(call): pass", "two")
    code, out, err = gworker("list")
    assert (code, err) == (0, "")
    heading, first, second = (line.split() for line in out.splitlines())
    assert heading == ["NAME", "PID", "PROCESSES", "GEN", "UPTIME", "TARGET", "VERSION"]
    assert [*first[:4], *first[5:]] == ["a:b", str(one.pid), "2", "3", "a:b", "9"]
    assert [*second[:4], *second[5:]] == ["two", str(two.pid), "-", "-", "-", "-"]


def test_list_does_not_wait_for_one_that_hangs(
    gworker: Run, arbiters: Arbiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "WHO_TIMEOUT", 0.1)
    arbiter = arbiters.start("def answer(call): globals().setdefault('kept', call)")
    _, out, err = gworker("list")
    assert out.splitlines()[1].startswith("shop")
    assert (
        f"note: shop (pid {arbiter.pid}) does not answer: nothing for 0.1 s; it is sleeping" in err
    )


# silence

IN_TIME = 0.4
"""Seconds of silence that these tests allow."""


@pytest.mark.parametrize(
    "argv",
    [
        ["reload"], ["scale", "chat", "2"], ["upgrade"], ["status"], ["status", "--settings"],
        ["connections"],
        ["stop"], ["restart", "app:handlers", "--name", "shop"],
    ],
    ids="-".join,
)  # fmt: skip
def test_every_command_gives_up_on_an_arbiter_that_is_stopped(
    gworker: Run, arbiters: Arbiters, monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    monkeypatch.setattr(control_client, "SILENCE", IN_TIME)
    arbiter = arbiters.start("def answer(call): call.finish(0)")
    arbiter.send_signal(signal.SIGSTOP)
    code, out, err = gworker(*argv)
    assert (code, out) == (1, "")
    assert err == (
        f"gworker: error: shop (pid {arbiter.pid}) does not answer: nothing for {IN_TIME:g} s;"
        f" it is stopped (SIGSTOP, or Ctrl-Z in its terminal); `kill -CONT {arbiter.pid}` lets "
        "it go on\n"
    )


@pytest.mark.parametrize("argv", [["reload"], ["status"], ["stop"], ["health"]], ids="-".join)
def test_one_that_is_stopped_and_whose_queue_is_full(
    gworker: Run, arbiters: Arbiters, monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    monkeypatch.setattr(control_client, "SILENCE", IN_TIME)
    monkeypatch.setattr(commands, "HEALTH_TIMEOUT", IN_TIME)
    arbiter = arbiters.start("def answer(call): call.finish(0)")
    arbiter.send_signal(signal.SIGSTOP)
    (path,) = Path(arbiters.directory).glob("*.sock")
    with ExitStack() as queue:
        with pytest.raises(BlockingIOError):
            while True:  # as probes do that have given up: the kernel keeps their places
                waiting = queue.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(path))
        code, out, err = gworker(*argv)
    assert (code, out) == (1, "")
    assert (
        f"shop (pid {arbiter.pid}) does not answer: nothing for {IN_TIME:g} s; it is stopped" in err
    )


def test_one_that_is_stopped_within_its_answer(
    gworker: Run, arbiters: Arbiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_client, "SILENCE", IN_TIME)
    arbiters.start(
        "def answer(call): call.send({'step': 'begun'}); os.kill(os.getpid(), signal.SIGSTOP)"
    )
    code, out, err = gworker("reload")
    assert (code, out) == (1, "begun\n")
    assert "it is stopped" in err


def test_one_that_does_not_get_round_to_it(
    gworker: Run, arbiters: Arbiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_client, "SILENCE", IN_TIME)
    arbiters.start("def answer(call):\n  while True: pass")
    assert "it is running, and does not get round to answering" in gworker("reload")[2]
    arbiters.start("def answer(call): signal.pause()", "other")
    assert "it is sleeping, and does not get round to answering" in gworker("reload", "other")[2]


# It takes five times as long as a command waits for a word, and tells in between that it is at
# work.
AT_WORK = f"def answer(call): work(call, {5 * IN_TIME}, {IN_TIME / 8})"


@pytest.mark.parametrize("argv", [["reload"], ["scale", "chat", "2"], ["upgrade"]], ids="-".join)
def test_what_takes_long_is_not_cut_while_the_arbiter_says_that_it_is_at_work(
    gworker: Run, arbiters: Arbiters, monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    monkeypatch.setattr(control_client, "SILENCE", IN_TIME)
    arbiters.start(AT_WORK)
    began = time.monotonic()
    assert gworker(*argv) == (0, "begun\n", "")
    assert time.monotonic() - began > 4 * IN_TIME


# stop


def test_stop_waits_for_the_end(gworker: Run, arbiters: Arbiters) -> None:
    answers = """
    def answer(call):
        call.send({"timeout": 5})
        call.send({"step": f"stopping, quick={call.arguments['quick']}"})
        quit()
    """
    arbiter = arbiters.start(answers)
    assert gworker("stop", "--quick") == (0, "stopping, quick=True\nshop stopped\n", "")
    # It has ended though nobody has reaped it: a zombie does not count as there.
    assert arbiter.wait(0) == 0
    assert gworker("stop")[0] == 3


def test_stop_with_a_last_word(gworker: Run, arbiters: Arbiters) -> None:
    arbiters.start("def answer(call): call.send({'timeout': 5}); call.finish(0); quit()")
    assert gworker("stop") == (0, "shop stopped\n", "")


def test_stop_gives_up_after_the_timeout_and_a_margin(
    gworker: Run, arbiters: Arbiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "STOP_MARGIN", 0.1)
    arbiter = arbiters.start("def answer(call): call.send({'timeout': 0.1}); call.finish(0)")
    code, out, err = gworker("stop")
    assert (code, out) == (1, "")
    assert err == f"gworker: error: shop (pid {arbiter.pid}) is still there\n"


def test_stop_does_not_wait_for_ever_for_one_that_hangs(
    gworker: Run, arbiters: Arbiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "STOP_MARGIN", 0.1)
    arbiter = arbiters.start("def answer(call): call.send({'timeout': 0.1}); signal.pause()")
    assert gworker("stop") == (1, "", f"gworker: error: shop (pid {arbiter.pid}) is still there\n")


def test_stop_gives_up_on_one_that_only_says_that_it_is_alive(
    gworker: Run, arbiters: Arbiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processes cannot be killed, say."""
    monkeypatch.setattr(commands, "STOP_MARGIN", 0.3)
    arbiter = arbiters.start(
        f"def answer(call): work(call, {5 * IN_TIME}, {IN_TIME / 8}, ('timeout', 0.1), False)"
    )
    assert gworker("stop") == (1, "", f"gworker: error: shop (pid {arbiter.pid}) is still there\n")


@pytest.mark.parametrize("argv", [["stop"], ["stop", "--quick"]])
def test_stop_by_signal_where_there_is_no_socket(
    gworker: Run, arbiters: Arbiters, argv: list[str]
) -> None:
    arbiter = arbiters.start("no_socket = True\ndef answer(call): pass")
    assert gworker(*argv) == (0, "shop stopped\n", "")
    assert arbiter.wait(0) == 0


# client


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair()
    connection = Connection(ours, Instance("shop", os.getpid(), ""))
    yield connection, theirs
    connection.close()
    theirs.close()


def test_replies_in_pieces_and_together(pair: tuple[Connection, socket.socket]) -> None:
    connection, theirs = pair
    theirs.sendall(b'{"a": 1}\n{"b"')
    replies = connection.call("x", timeout=5)
    assert next(replies) == {"a": 1}
    theirs.sendall(b': 2}\n{"exit": 0}\n{"late": 1}\n')
    assert list(replies) == [{"b": 2}, {"exit": 0}]
    assert json.loads(theirs.recv(100)) == {"command": "x"}


def test_descriptors_belong_to_the_reply_that_says_so(
    pair: tuple[Connection, socket.socket],
) -> None:
    connection, theirs = pair
    fds = [os.memfd_create(name) for name in "abc"]
    theirs.sendall(b'{"none": 1}\n')
    socket.send_fds(theirs, [b'{"fds": 2}\n'], fds[:2])
    socket.send_fds(theirs, [b'{"fds": 1}\n{"exit": 0}\n'], fds[2:])
    replies = list(connection.call("x", timeout=5))
    names = [
        [os.readlink(f"/proc/self/fd/{fd}").split(":")[1][0] for fd in reply.fds]
        for reply in replies
    ]
    assert names == [[], ["a", "b"], ["c"], []]
    assert not any(os.get_inheritable(fd) for reply in replies for fd in reply.fds)
    for reply in replies:
        reply.close()
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("line", [b"nonsense\n", b"[1]\n", b"1\n", b'{"fds": "x"}\n', b"\xff\n"])
def test_nonsense_is_an_error(pair: tuple[Connection, socket.socket], line: bytes) -> None:
    connection, theirs = pair
    theirs.sendall(line)
    with pytest.raises(ControlError, match="makes no sense"):
        list(connection.call("x", timeout=5))


def test_silence_is_an_error_at_the_deadline(pair: tuple[Connection, socket.socket]) -> None:
    connection, theirs = pair
    theirs.sendall(b'{"step": 1}\n')
    began = time.monotonic()
    with pytest.raises(ControlError, match="does not answer"):
        list(connection.call("x", timeout=0.1))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("data", [b"", b'{"step": 1}\n', b'{"exit": 0}'])
def test_an_end_too_early_is_gone(pair: tuple[Connection, socket.socket], data: bytes) -> None:
    connection, theirs = pair
    theirs.sendall(data)
    theirs.close()
    with pytest.raises(Gone):
        list(connection.call("x", timeout=5))


def test_a_request_that_was_never_read_is_gone_too(pair: tuple[Connection, socket.socket]) -> None:
    """The kernel then reports a reset instead of an end."""
    connection, theirs = pair
    theirs.sendall(b'{"step": 1}\n')
    replies = connection.call("x", timeout=5)
    assert next(replies) == {"step": 1}
    theirs.close()
    with pytest.raises(Gone):
        next(replies)


def test_connect_errors(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="no control socket"):
        control_client.connect(Instance("shop", 1, str(tmp_path / "app.sock")))
    with listening_at(str(tmp_path / "app.sock")):
        pass
    with pytest.raises(NotRunning, match="no control socket"):
        control_client.connect(Instance("shop", 1, str(tmp_path / "app.sock")))


def test_a_socket_of_another_user_gets_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "app.sock")
    with listening_at(path):
        pid = os.getpid()
        control_client.connect(Instance("shop", pid, path)).close()
        with pytest.raises(ControlError, match=rf"another program's \(pid {pid}, uid"):
            control_client.connect(Instance("shop", 1, path))
        other = Credentials(pid, 4712, 1)
        monkeypatch.setattr(control_client, "credentials_of", lambda sock: other)
        with pytest.raises(ControlError, match=rf"another program's \(pid {pid}, uid 4712\)"):
            control_client.connect(Instance("shop", pid, path))


def test_a_long_path(tmp_path: Path) -> None:
    files = RuntimeFiles([str(tmp_path / ("d" * 120))], "shop")
    files.acquire()
    assert files.socket_path is not None
    with listening_at(files.socket_path):
        control_client.connect(Instance("shop", os.getpid(), files.socket_path)).close()
    files.release()


COLLECTS = places.program("collects_garbage")


def test_what_goes_on_for_long_collects_garbage(tmp_path: Path) -> None:
    command = [*COLLECTS, str(tmp_path)]
    done = subprocess.run(
        command, cwd=tmp_path, text=True, capture_output=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == ["serving True", "watching True"], done.stderr
