"""The declaration of a Worker: keywords, decorators, assignment, and what is refused."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from gworker.app import worker as declarations
from gworker.app.callbacks import (
    CALLBACKS,
    CONNECTION_CALLBACKS,
    MASTER_CALLBACKS,
    WORKER_CALLBACKS,
)
from gworker.app.options import LIMITS
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


def get(worker: Worker, name: str) -> Any:
    """The callback as the process will find it."""
    if name == "handler":
        return worker.connection_handler
    if name in WORKER_CALLBACKS + MASTER_CALLBACKS:
        return worker.process_callbacks.get(name)
    return getattr(worker.callbacks, name)


@pytest.mark.parametrize("name", [*CALLBACKS, "handler"])
@pytest.mark.parametrize("how", ["keyword", "decorator", "assignment"])
def test_a_callback_is_set_in_three_ways(name: str, how: str) -> None:
    if how == "keyword":
        worker = Worker("tcp://127.0.0.1:0", **{name: function})
    else:
        worker = Worker("tcp://127.0.0.1:0")
        assert get(worker, name) is None
        if how == "decorator":
            assert getattr(worker, name)(function) is function
        else:
            setattr(worker, name, function)
    assert get(worker, name) is function
    assert [other for other in CALLBACKS if other != name and get(worker, other)] == []


@pytest.mark.parametrize("name", [*CALLBACKS, "handler"])
def test_a_callback_is_removed_and_replaced(name: str) -> None:
    worker = Worker("tcp://127.0.0.1:0", **{name: print})
    setattr(worker, name, function)
    assert get(worker, name) is function
    setattr(worker, name, None)
    assert get(worker, name) is None
    setattr(worker, name, None)


@pytest.mark.parametrize("name", [*CALLBACKS, "handler"])
@pytest.mark.parametrize("value", ["text", 3, object()])
def test_what_cannot_be_called_is_refused(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"{name} of .* must be callable"):
        Worker("tcp://127.0.0.1:0", **{name: value})
    with pytest.raises(TypeError, match=f"{name} of .* must be callable"):
        setattr(Worker("tcp://127.0.0.1:0"), name, value)


@pytest.mark.parametrize("names", [("on_message", "handler"), ("handler", "on_message")])
def test_on_message_or_a_handler_but_not_both(names: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="either on_message or a connection handler"):
        Worker("tcp://127.0.0.1:0", **dict.fromkeys(names, function))
    worker = Worker("tcp://127.0.0.1:0")
    setattr(worker, names[0], function)
    with pytest.raises(ConfigError, match="either on_message or a connection handler"):
        setattr(worker, names[1], function)


def test_callbacks_of_one_worker_are_its_own() -> None:
    one, other = Worker("tcp://127.0.0.1:0", on_message=function), Worker("tcp://127.0.0.1:0")
    assert get(other, "on_message") is None
    copy = one.callbacks.copy()
    copy.on_message = None
    assert get(one, "on_message") is function


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
    assert declaration.to_dict() == {
        "name": "a", "listen": "text://127.0.0.1:99", "transport": "udp", "count": 3, "user": "u",
        "group": "g",
        "reloadable": False, "reuse_port": True, "backlog": 7, "migration_obstacle": "",
        "speaks": "text", "hooks": (),
        "limits": {"max_connections": 5, "idle_timeout": 1.5}, "files": (), "unix_file": {},
    }  # fmt: skip
    assert Declaration(**declaration.to_dict()) == declaration
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


@pytest.mark.parametrize("limit", LIMITS)
def test_limits(limit: str) -> None:
    assert Worker(**{limit: 7}).limits == {limit: 7}
    assert Worker(**{limit: 0}).limits == {limit: 0}
    for bad in (-1, "seven", None, True, [], float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=f"Worker 'shop': {limit}="):
            Worker(name="shop", **{limit: bad})


def test_sizes_may_have_units() -> None:
    assert Worker(max_package_size="2MiB", max_send_buffer_size="64K").limits == {
        "max_package_size": 2 << 20, "max_send_buffer_size": 65536,
    }  # fmt: skip
    with pytest.raises(ConfigError, match="idle_timeout='2MiB' is not a number"):
        Worker(idle_timeout="2MiB")


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


def test_every_connection_callback_can_be_copied() -> None:
    worker = Worker("tcp://127.0.0.1:0", **dict.fromkeys(CONNECTION_CALLBACKS, function))
    copy = worker.callbacks.copy()
    assert all(getattr(copy, name) is function for name in CONNECTION_CALLBACKS)


def test_a_misspelt_callback_is_refused() -> None:
    worker = Worker()
    with pytest.raises(
        AttributeError, match="'on_mesage' is no callback of a Worker; did you mean on_message?"
    ):
        worker.on_mesage = print
    with pytest.raises(
        AttributeError, match="'on_mesage' is no callback of a Worker; did you mean on_message?"
    ):
        worker.on_mesage(print)
    with pytest.raises(AttributeError, match="a Worker has no attribute 'lisen'"):
        worker.lisen()


def test_a_misspelt_keyword_is_refused_with_the_nearest() -> None:
    with pytest.raises(TypeError, match="'idle_timout'; did you mean idle_timeout?"):
        Worker(idle_timout=3)
    with pytest.raises(TypeError, match="'nam'; did you mean name?"):
        Worker(nam="x")
