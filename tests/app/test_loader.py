"""Loading what a command line names."""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path

import places
import pytest
from loading import Load, fails

from gworker.app import loader, script
from gworker.errors import ConfigError, LoadError

TWO = """
    from gworker import Worker

    a = Worker("tcp://127.0.0.1:1")
    b = Worker("text://127.0.0.1:2", name="second")
"""


def test_a_worker(load: Load) -> None:
    (worker,) = load(TWO, "a")
    assert (worker.name, worker.listen_url) == ("a", "tcp://127.0.0.1:1")


@pytest.mark.parametrize("kind", ["[a, b]", "(a, b)", "(a, b)[:]"])
def test_a_list_or_tuple_of_workers(load: Load, kind: str) -> None:
    assert [worker.name for worker in load(TWO + f"    many = {kind}\n", "many")] == ["a", "second"]


def test_without_an_attribute_it_is_handlers(load: Load) -> None:
    assert [worker.name for worker in load(TWO + "    handlers = b\n")] == ["second"]


def test_without_handlers_it_is_every_worker_that_was_declared(load: Load, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("from gworker import Worker\nWorker('http://127.0.0.1:3')\n")
    names = [worker.name for worker in load("    import other\n" + TWO)]
    assert names == ["http", "a", "second"]


def test_a_dotted_attribute(load: Load) -> None:
    (worker,) = load(TWO + "    class Namespace:\n        inner = b\n", "Namespace.inner")
    assert worker.name == "second"


def test_a_package(load: Load, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "inner.py").write_text(textwrap.dedent(TWO))
    assert [worker.name for worker in load("", target="package.inner")] == ["a", "second"]


def test_a_file(load: Load, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "sibling_of_it.py").write_text("name = 'from a sibling'\n")
    (tmp_path / "deep" / "some-server.py").write_text(
        "from sibling_of_it import name\nfrom gworker import Worker\nw = "
        "Worker('tcp://127.0.0.1:1', name=name)\n"
    )
    for target in (
        "deep/some-server.py",
        "./deep/some-server.py:w",
        str(tmp_path / "deep/some-server.py"),
    ):
        assert [worker.name for worker in load("", target=target)] == ["from a sibling"]


def test_a_file_finds_modules_of_the_current_directory(load: Load, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "inner.py").write_text("import app\nhandlers = app.b\n")
    assert [worker.name for worker in load(TWO, target="deep/inner.py")] == ["second"]


def test_what_an_earlier_load_declared_is_forgotten(load: Load) -> None:
    load(TWO)
    assert [worker.name for worker in load("from gworker import Worker\nx = Worker()\n")] == ["x"]


FORMS = places.app("forms")


@pytest.mark.parametrize(
    ("attribute", "callbacks"),
    [
        ("message", {"on_message"}),
        ("with_default", {"on_message"}),
        ("any_number", {"on_message"}),
        ("a_lambda", {"on_message"}),
        ("method", {"on_message"}),
        ("a_callable", {"on_message"}),
        ("instance", {"on_message", "on_close"}),
        ("Instance", {"on_message", "on_close"}),
        ("Instance()", {"on_message", "on_close"}),
        ("Static", {"on_message", "on_close"}),
        ("this_module", {"on_message", "on_worker_start"}),
        ("a_dict", {"on_message", "on_connect"}),
    ],
)
def test_callbacks_are_served_at_bind(load: Load, attribute: str, callbacks: set[str]) -> None:
    (worker,) = load(FORMS, attribute)
    assert worker.listen_url == "http://127.0.0.1:8000"
    assert worker.name == attribute.removesuffix("()")
    found = {
        name for name in ("on_connect", "on_message", "on_close") if getattr(worker.callbacks, name)
    }
    assert found | set(worker.process_callbacks) == callbacks
    assert worker.connection_handler is None
    (worker,) = load(FORMS, attribute, bind=["text://127.0.0.1:5"])
    assert worker.listen_url == "text://127.0.0.1:5"


@pytest.mark.parametrize("attribute", ["instance", "Instance", "Static"])
def test_methods_are_bound(load: Load, attribute: str) -> None:
    (worker,) = load(FORMS, attribute)
    assert worker.callbacks.on_message is not None
    assert worker.callbacks.on_close is not None
    worker.callbacks.on_message("connection", "data")
    worker.callbacks.on_close("connection")


@pytest.mark.parametrize(
    "attribute",
    [
        "connection_handler",
        "connection_handler_with_default",
        "session",
        "Base",
        "Stream",
        "Http",
        "Datagram",
    ],
)
def test_connection_handlers_are_served_at_bind(load: Load, attribute: str) -> None:
    (worker,) = load(FORMS, attribute)
    assert worker.listen_url == "tcp://127.0.0.1:8000"
    assert worker.connection_handler is not None
    assert worker.callbacks.on_message is None
    (worker,) = load(FORMS, attribute, bind=["unix:///run/a.sock"])
    assert worker.listen_url == "unix:///run/a.sock"


def test_several_addresses_make_several_workers(load: Load) -> None:
    workers = load(FORMS, "message", bind=["text://127.0.0.1:5", "http://127.0.0.1:6"])
    assert [worker.listen_url for worker in workers] == ["text://127.0.0.1:5", "http://127.0.0.1:6"]
    assert len({worker.name for worker in workers}) == 2


def test_handlers_may_be_a_function(load: Load) -> None:
    (worker,) = load("def handlers(connection, data): pass\n")
    assert (worker.name, worker.listen_url) == ("handlers", "http://127.0.0.1:8000")


APPS = places.APPS


WRONG = (APPS / "wrong_arguments.py").read_text()


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        (
            "a_dict",
            r"on_close of <Worker a_dict http.*> is on_close\(connection, \*, why\); expected "
            r"\(connection\)",
        ),
        (
            "Handler",
            r"on_message of .* is Handler.on_message\(connection\); expected \(connection, data\)",
        ),
        (
            "instance",
            r"on_message of .* is Handler.on_message\(connection\); expected \(connection, data\)",
        ),
        ("Static", r"is Static.on_message\(one, connection, data\); expected \(connection, data\)"),
        ("forgotten", r"is Forgotten.on_message\(data\); expected \(connection, data\)"),
        (
            "three",
            r"'app:three' is three\(environ, start, more\), which takes 3 arguments; expected "
            r"\(connection, data\)",
        ),
        ("coroutine", r"is the async function coroutine\(connection, data\)"),
        ("this_module", r"on_(close|error) of .*; expected \(connection"),
    ],
)
def test_a_callback_with_the_wrong_number_of_arguments(
    load: Load, attribute: str, words: str
) -> None:
    assert re.search(words, str(fails(load, WRONG, attribute)))


def test_the_line_that_sets_it_is_shown(load: Load) -> None:
    error = fails(load, TWO + "    @a.on_message\n    def handle(connection):\n        pass\n")
    assert (
        "on_message of <Worker ? tcp://127.0.0.1:1> is handle(connection); expected (connection, "
        "data)" in str(error)
    )
    assert "@a.on_message" in error.traceback


DECORATED = (APPS / "decorated.py").read_text()


@pytest.mark.parametrize("attribute", ["handle", "Handler"])
def test_a_decorator_may_add_arguments(load: Load, attribute: str) -> None:
    (worker,) = load(DECORATED, attribute)
    assert worker.callbacks.on_message is not None
    worker.callbacks.on_message("connection", "data")


@pytest.mark.parametrize("result", ["a", "[a, b]", "message", "session", "{'on_message': message}"])
def test_a_factory(load: Load, result: str) -> None:
    source = f"""
    def message(connection, data): pass
    def session(connection): pass
    def make(): return {result}
    """
    assert load(TWO + source, "make()")


def test_a_factory_may_declare_workers_of_its_own(load: Load) -> None:
    source = """
    from gworker import Worker
    class Factory:
        @staticmethod
        def make():
            return [Worker("tcp://127.0.0.1:1", name="made")]
    """
    assert [worker.name for worker in load(source, "Factory.make()")] == ["made"]


def test_workers_without_a_name_get_that_of_their_variable_or_scheme(load: Load) -> None:
    source = """
    from gworker import Worker
    chat = Worker("websocket://127.0.0.1:1")
    handlers = [chat, Worker("http://127.0.0.1:2"), Worker("http://127.0.0.1:3"), Worker()]
    """
    names = [worker.name for worker in load(source)]
    assert names[:3] == ["chat", "http", "http-2"]
    assert len(set(names)) == 4


def test_the_first_variable_gives_the_name(load: Load) -> None:
    """A loop over the Workers leaves its variable behind, and that is not how they are called."""
    names = [worker.name for worker in load(TWO + "    for worker in (b, a):\n        pass\n")]
    assert names == ["a", "second"]


def test_two_workers_of_one_name(load: Load) -> None:
    error = fails(load, TWO + "    c = Worker('tcp://127.0.0.1:3', name='second')\n")
    assert "two Workers are named 'second'" in str(error)


def test_a_script_is_main_and_ends_at_run_all(load: Load, tmp_path: Path) -> None:
    (tmp_path / "start.py").write_text(
        textwrap.dedent(TWO)
        + "if __name__ == '__main__':\n    Worker.run_all()\n    raise SystemExit('not reached')\n"
    )
    workers = loader.load(str(tmp_path / "start.py"), str(tmp_path), script=True)
    assert [worker.name for worker in workers] == ["a", "second"]


@pytest.mark.parametrize(
    ("source", "attribute", "words"),
    [
        ("", "", "declares no Worker at all"),
        ("def serve(c, d): pass", "", "to serve the function 'serve' say app:serve"),
        ("x = 1", "y", "has no attribute 'y'; it has x"),
        ("x = 1", "x.y", "no attribute 'y'"),
        ("x = 1", "x", "1 of type int; expected a Worker"),
        ("x = 1", "x()", "cannot be called"),
        ("x = None", "x", "None"),
        ("x = []", "x", "no Worker at all"),
        ("x = [1]", "x", "expected Workers only"),
        ("def x(): pass", "x", "takes 0 arguments"),
        ("def x(a, b, c): pass", "x", "takes 3 arguments"),
        ("def x(): return 3", "x()", "3 of type int"),
        ("class x: pass", "x", "expected a Worker"),
        ("class x:\n  on_mesage = print", "x", "'on_mesage', which is no callback"),
        ("x = {'on_message': 3}", "x", "on_message of .* must be callable"),
        ("x = {'a': print}", "x", "expected a Worker"),
        ("from gworker import Worker\nWorker('nonsense')", "", "address 'nonsense'"),
        ("from gworker import Worker\nWorker('tcp://127.0.0.1:1', count=0)", "", "count=0"),
    ],
)
def test_a_target_that_cannot_be_served(
    load: Load, source: str, attribute: str, words: str
) -> None:
    with pytest.raises(LoadError, match=words):
        load(source, attribute)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def f():\n    return 1 // 0\n\nf()", "ZeroDivisionError"),
        ("import does_not_exist_at_all", "does_not_exist_at_all"),
        ("def f(:", "SyntaxError"),
        ("import sys\nsys.exit(3)", "called sys.exit(3)"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("class Odd(BaseException): pass\nraise Odd('odd')", "Odd: odd"),
    ],
)
def test_code_that_fails_is_shown_with_its_own_traceback(
    load: Load, source: str, words: str
) -> None:
    error = fails(load, source)
    assert words in str(error)
    assert "app.py" in error.traceback
    assert os.path.dirname(loader.__file__) not in error.traceback


@pytest.mark.parametrize("attribute", ["make()", "Handler"])
def test_a_factory_or_class_that_fails_has_a_traceback_too(load: Load, attribute: str) -> None:
    source = """
    def make():
        raise ValueError("no")

    class Handler:
        def __init__(self):
            raise ValueError("no")
        def on_message(self, connection, data):
            pass
    """
    error = fails(load, source, attribute)
    assert "ValueError: no" in str(error)
    assert 'raise ValueError("no")' in error.traceback


@pytest.mark.parametrize("target", ["no_such_module", "no_such_package.module", "app.inner"])
def test_no_such_module(load: Load, target: str) -> None:
    error = fails(load, "", target=target)
    assert repr(target) in str(error)
    assert "not found" in str(error)


@pytest.mark.parametrize(
    "target", ["no_such_file.py", "directory/no_such_file.py", "directory/app"]
)
def test_no_such_file(load: Load, target: str) -> None:
    assert f"no such file: {os.path.abspath(target)}" in str(fails(load, "", target=target))


@pytest.mark.parametrize("target", [":", ":app", ""])
def test_no_module_at_all(load: Load, target: str) -> None:
    assert "expected module[:attr]" in str(fails(load, "", target=target))


def test_bind_for_workers_that_listen_is_an_error(load: Load) -> None:
    with pytest.raises((LoadError, ConfigError), match="--bind tcp://127.0.0.1:9"):
        load(TWO, "a", bind=["tcp://127.0.0.1:9"])


def test_a_bad_bind(load: Load) -> None:
    with pytest.raises((LoadError, ConfigError), match="nonsense"):
        load(FORMS, "message", bind=["nonsense"])


def test_after_a_failure_the_next_load_works(load: Load) -> None:
    fails(load, "1 // 0")
    assert not script.loading
    assert len(load(TWO)) == 2
