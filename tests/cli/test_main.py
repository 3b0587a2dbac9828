"""The words of a command line, and what they start."""

from __future__ import annotations

import subprocess
from pathlib import Path

import places
import pytest
from command_line import Run, Server

from gworker.cli import command_table, main
from gworker.core import IMPLEMENTATION
from gworker.errors import ConfigError
from gworker.version import __version__


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
        assert gworker(*argv) == (0, f"gworker {__version__}, {IMPLEMENTATION} core\n", "")


@pytest.mark.parametrize(
    "argv",
    [
        ["-d"],
        ["start"],
        ["restart", "-d"],
        ["chat", "extra"],
        ["--zzyzx"],
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
        (["app", "--zzyzx"], "unrecognized arguments: --zzyzx\n"),
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
    code, _, err = gworker("--script", "/elsewhere/start.py", "{}", "stop", "--zzyzx")
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


def test_check(gworker: Run, server: Server) -> None:
    assert gworker("check", "chat", "--umask", "7")[0] == 4
    assert server.checked[0].umask == 7


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
