"""What the documentation says is what the code has."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import places
import pytest

from gworker.app.callbacks import CALLBACKS
from gworker.app.options import LIMITS
from gworker.app.options import OPTIONS as WORKER_OPTIONS
from gworker.arbiter import SIGNALS
from gworker.cli.serve import PRELOADED
from gworker.config.options import OPTIONS
from gworker.config.settings import Layer
from gworker.config.sources import Sources
from gworker.config.toml_file import WORKER_KEYS
from gworker.errors import ProtocolError
from gworker.protocols import Control

ROOT = places.ROOT
GUIDE = (ROOT / "docs" / "guide.md").read_text()
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def code_blocks(page: Path) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_blocks_are_python(page: Path) -> None:
    for block in code_blocks(page):
        compile(block, str(page), "exec")


def test_some_pages_have_code() -> None:
    assert sum(len(code_blocks(page)) for page in PAGES) >= 5


def test_every_signal_of_the_arbiter_is_documented() -> None:
    table = (ROOT / "docs" / "signals.md").read_text().partition("## Worker processes")[0]
    documented = set(
        re.findall(r"`([A-Z0-9]+)`", "\n".join(re.findall(r"^\| `.*?\|", table, re.MULTILINE)))
    )
    assert documented == {number.name.removeprefix("SIG") for number in SIGNALS}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_is_in_the_guide(option: object) -> None:
    assert f"--{option.name}" in GUIDE  # type: ignore[attr-defined]


def test_the_table_of_settings_is_that_of_the_options() -> None:
    page = ROOT / "docs" / "settings.md"
    spec = importlib.util.spec_from_file_location("options", ROOT / "docs" / "options.py")
    assert spec is not None
    assert spec.loader is not None
    options = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(options)
    assert page.read_text() == options.page_with_table(page.read_text()), (
        "run `python docs/options.py`"
    )


def test_the_example_of_a_file_is_one(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "settings.md").read_text().partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "gworker.toml").write_text(text)
    settings = Sources(
        None, Layer("command line", {}), environment=(), directory=str(tmp_path)
    ).read()
    assert (settings.target, settings.workers, settings.umask) == ("shop:handlers", 4, 0o27)
    assert settings.of_workers == {"chat": {"count": 8, "idle_timeout": 300}}


@pytest.mark.parametrize("pace", [1, 3, 1000])
def test_the_example_of_a_protocol_is_one(pace: int) -> None:
    text = (ROOT / "docs" / "protocols.md").read_text()
    code = (
        text.partition("## A protocol with a state")[2]
        .partition("```python\n")[2]
        .partition("```")[0]
    )
    names: dict[str, Any] = {}
    exec(code, names)

    def talk(data: bytes) -> list[Any]:
        """The messages in `data`, up to the end or an error."""
        resp, found = names["Resp"](1000), []
        pieces = [data[start : start + pace] for start in range(0, len(data), pace)]
        for piece in [*pieces, b""]:
            resp.receive_data(piece)
            try:
                while not isinstance(event := resp.next_event(), Control):
                    found.append(event)
            except ProtocolError as error:
                found.append(error.reply)
        return found

    get = b"*2\r\n$3\r\nGET\r\n$4\r\nk\r\n1\r\n"
    assert talk(get + b"*0\r\n*1\r\n$0\r\n\r\n" + get[:9]) == [[b"GET", b"k\r\n1"], [b""]]
    assert talk(b"GET k\r\n") == [b"-ERR Protocol error: a command is an array of strings\r\n"]
    assert talk(b"*1\r\n$1000\r\n") == [b"-ERR Protocol error: the command is too large\r\n"]
    assert talk(b"*" + b"1" * 50) == [b"-ERR Protocol error: no number where one is expected\r\n"]
    assert [names["Resp"](10).encode(each) for each in (None, 7, "OK", b"ab")] == [
        b"$-1\r\n", b":7\r\n", b"+OK\r\n", b"$2\r\nab\r\n",
    ]  # fmt: skip


def names_in(body: list[ast.stmt], prefix: str = "") -> set[str]:
    """What a module has at its top, and its classes at theirs."""
    found: set[str] = set()
    for each in body:
        if isinstance(each, ast.ClassDef):
            found |= {prefix + each.name, *names_in(each.body, f"{each.name}.")}
        elif isinstance(each, ast.FunctionDef):
            found.add(prefix + each.name)
        elif isinstance(each, ast.Assign | ast.AnnAssign):
            targets = each.targets if isinstance(each, ast.Assign) else [each.target]
            found |= {prefix + target.id for target in targets if isinstance(target, ast.Name)}
    return found


def test_the_architecture_names_what_there_is() -> None:
    there = {"setup.cfg", "arbiter.py"}
    there |= {
        f"{path.parent.parent.name}.{path.parent.name}"
        for path in (ROOT / "gworker").rglob("__init__.py")
    }
    for path in (ROOT / "gworker").rglob("*.py"):
        names = names_in(ast.parse(path.read_text()).body)
        there |= names | {f"{path.stem}.{name}" for name in names}
        there.add(f"{path.parent.name}.{path.stem}")
    text = (ROOT / "docs" / "architecture.md").read_text()
    # Names with a dot, and those of classes: they stand in the drawings, too.
    named = set(re.findall(r"`(\w+\.\w+)`", text))
    named |= set(re.findall(r"\b[A-Z][a-z]+(?:[A-Z][a-z]+)+\b|\b[A-Z]\w+\.[a-z]\w+", text))
    assert len(named) > 20
    # `connection.send` is a method of `Connection`.
    assert {name for name in named if not {name, name[0].upper() + name[1:]} & there} <= {
        "WebSocket"
    }


def test_every_key_of_a_worker_table_is_documented() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    assert all(f"`{key.replace('_', '-')}`" in text for key in WORKER_KEYS)


def test_no_option_is_documented_that_is_not_there() -> None:
    settings = GUIDE.partition("## Settings")[2]
    named = set(re.findall(r"--([a-z][a-z-]+)", settings))
    assert named <= {option.name for option in OPTIONS}


@pytest.mark.parametrize("name", [*CALLBACKS, *LIMITS, *WORKER_OPTIONS])
def test_every_callback_and_limit_is_in_the_guide(name: str) -> None:
    assert f"{name}" in GUIDE


def test_the_arbiter_loads_no_gevent() -> None:
    program = f"""
import sys, importlib, threading
import gworker.cli.main, gworker.cli.serve
for module in {PRELOADED!r}:
    importlib.import_module(module)
heavy = ("gevent", "greenlet", "ssl", "asyncio", "concurrent.futures")
found = [name for name in heavy if name in sys.modules]
assert not found, found
assert threading.active_count() == 1
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_package_imports_nothing_until_it_is_asked() -> None:
    program = (
        "import sys, gworker; assert 'gevent' not in sys.modules; gworker.Worker; assert "
        "'gevent' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Worker" in dir(__import__("gworker"))
    with pytest.raises(AttributeError, match="has no attribute 'Wroker'"):
        __import__("gworker").Wroker  # noqa: B018
