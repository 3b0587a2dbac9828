"""A Worker as an app declares it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest

from gworker.app import worker as declarations
from gworker.app.worker import Worker
from gworker.errors import ConfigError
from gworker.ipc.declaration import Declaration


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    declarations.declared.clear()
    declarations.running.clear()


def function(*_: Any) -> None:
    pass


def test_defaults() -> None:
    worker = Worker()
    assert worker.declaration() == Declaration(
        name="", listen=None, transport=None, count=None, user=None, group=None,
        reloadable=True, reuse_port=False, backlog=1024,
    )  # fmt: skip
    assert worker.limits == {}
    assert worker.declaration().address() is None


def test_everything_is_declared() -> None:
    worker = Worker(
        "text://127.0.0.1:99", name="a", count=3, user="u", group="g", reloadable=False,
        reuse_port=True,
        transport="udp", protocol="text", backlog=7, handover=True, max_connections=5,
        idle_timeout=1.5,
    )  # fmt: skip
    declaration = worker.declaration()
    assert asdict(declaration) == {
        "name": "a", "listen": "text://127.0.0.1:99", "transport": "udp", "count": 3, "user": "u",
        "group": "g",
        "reloadable": False, "reuse_port": True, "backlog": 7, "migration_obstacle": "",
        "speaks": "text", "hooks": (),
        "limits": {"max_connections": 5, "idle_timeout": 1.5}, "files": (), "unix_file": {},
    }  # fmt: skip
    assert Declaration(**asdict(declaration)) == declaration
    address = declaration.address()
    assert address is not None
    assert (address.transport, address.port) == ("udp", 99)
    assert worker.limits == {"max_connections": 5, "idle_timeout": 1.5}
    assert worker.protocol == "text"


def test_handover() -> None:
    assert Worker().handover == "auto"
    for value in (True, False, "auto"):
        assert Worker(handover=value).handover == value  # type: ignore[arg-type]
    worker = Worker(name="shop")
    for bad in ("yes", "Auto", None, 1, 0):
        message = re.escape(
            f"Worker 'shop': handover={bad!r} is not valid, expected \"auto\", True or False"
        )
        with pytest.raises(ConfigError, match=message):
            Worker(name="shop", handover=bad)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=message):
            worker.handover = bad  # type: ignore[assignment]
    assert worker.handover == "auto"


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", True])
def test_a_bad_count(count: object) -> None:
    with pytest.raises(ConfigError, match="count=.* is not a whole number from 1"):
        Worker("tcp://127.0.0.1:0", count=count)  # type: ignore[arg-type]


@pytest.mark.parametrize("listen", ["tcp://127.0.0.1", "nothing", "tcp://127.0.0.1:99999", ""])
def test_a_bad_address_is_an_error_where_it_stands(listen: str) -> None:
    with pytest.raises(ConfigError, match="address"):
        Worker(listen)


def test_an_unknown_keyword_is_named_with_the_known_ones() -> None:
    with pytest.raises(TypeError, match=r"'on_mesage'.*on_message"):
        Worker("tcp://127.0.0.1:0", on_mesage=function)


def test_only_listen_is_positional() -> None:
    with pytest.raises(TypeError):
        Worker("tcp://127.0.0.1:0", "name")  # type: ignore[misc]


def test_workers_are_remembered_in_order() -> None:
    workers = [Worker(f"tcp://127.0.0.1:{port}") for port in (1, 2, 3)]
    assert declarations.declared == workers


def test_a_worker_that_failed_is_not_declared() -> None:
    with pytest.raises(ConfigError):
        Worker("tcp://127.0.0.1:0", idle_timeout=-1)
    assert declarations.declared == []


@pytest.mark.parametrize("name", ["id", "stopping", "connections"])
def test_outside_a_worker_process_there_is_nothing_to_ask(name: str) -> None:
    with pytest.raises(RuntimeError, match="not running in this process"):
        getattr(Worker("tcp://127.0.0.1:0"), name)


def test_listen_needs_a_process_too() -> None:
    with pytest.raises(RuntimeError, match="works inside a worker process"):
        Worker("tcp://127.0.0.1:0").listen()


def test_inside_a_worker_process_the_runtime_answers() -> None:
    class Fake:
        id = 3
        stopping = True
        connections: dict[int, Any] = {1: "a"}  # noqa: RUF012
        stopped = 0

        def listen(self, _declared: Worker, url: str | None) -> str:
            return f"listening on {url}"

        def stop(self) -> None:
            self.stopped += 1

    worker, runtime = Worker("tcp://127.0.0.1:0"), Fake()
    declarations.running.append((worker, runtime))
    assert (worker.id, worker.stopping, worker.connections) == (3, True, {1: "a"})
    assert worker.listen("tcp://127.0.0.1:1") == "listening on tcp://127.0.0.1:1"
    Worker.stop_all()
    assert runtime.stopped == 1
    with pytest.raises(RuntimeError, match="not running"):
        _ = Worker("tcp://127.0.0.1:0").id


def test_run_all_needs_a_script() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from gworker import Worker; Worker.run_all()"],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode != 0
    assert "needs a script" in done.stderr


def test_declaring_a_worker_imports_no_gevent() -> None:
    code = (
        "import sys; from gworker import Worker; Worker('http://127.0.0.1:0'); print('gevent' "
        "in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "False\n"


def test_repr_names_it() -> None:
    assert repr(Worker("tcp://127.0.0.1:1", name="a")) == "<Worker a tcp://127.0.0.1:1>"
    assert "without a socket" in repr(Worker())


def test_a_misspelt_keyword_is_refused_with_the_nearest() -> None:
    with pytest.raises(TypeError, match="'idle_timout'; did you mean idle_timeout?"):
        Worker(idle_timout=3)
    with pytest.raises(TypeError, match="'nam'; did you mean name?"):
        Worker(nam="x")
