"""Words that are spelt another way: which one is meant, and that nothing is accepted and
ignored."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import places
import pytest

from gworker.app import attribute_names, static_settings
from gworker.app.attribute_names import (
    ASYNCIO,
    CONNECTION,
    camel_case,
    connection_hint,
    hint_for,
    meant,
)
from gworker.app.worker import ARGUMENTS, Worker, declared
from gworker.connection.connection import Connection
from gworker.errors import ConfigError
from gworker.server.udp import Datagram

ROOT = places.ROOT
CONTEXT = "a connection takes no further ones: keep your own data as connection.context."


@pytest.fixture(autouse=True)
def undeclared() -> None:
    declared.clear()


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("onMessage", "on_message"),
        ("onWebSocketConnect", "on_websocket_connect"),
        ("on_web_socket_connect", "on_websocket_connect"),
        ("reusePort", "reuse_port"),
        ("reloadble", "reloadable"),
        ("relodable", "reloadable"),
        ("max_package_sise", "max_package_size"),
        ("handlers", ""),  # a plural is a name of its own
        ("users", ""),
        ("groups", ""),
        ("counter", ""),
        ("uidConnections", ""),
        ("db", ""),
        ("pool", ""),
    ],
)
def test_which_argument_is_meant(name: str, word: str) -> None:
    assert meant(name, ARGUMENTS) == word


def test_names_become_camel_case() -> None:
    assert [camel_case(each) for each in ("id", "remote_ip", "on_websocket_connect")] == [
        "id", "remoteIp", "onWebsocketConnect",
    ]  # fmt: skip


# ---- Workers


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("onMessage", "did you mean on_message?"),
        ("onWorkerStart", "did you mean on_worker_start?"),
        ("on_mesage", "did you mean on_message?"),
        ("reloadble", "did you mean reloadable?"),
        ("reusePort", "did you mean reuse_port?"),
        ("idleTimeout", "did you mean idle_timeout?"),
        ("daemonize", "it is one for all, Worker.daemonize"),
        ("stdoutFile", "it is one for all, Worker.stdout_file"),
        ("listen", "cannot be set"),
        ("options", "cannot be set"),
        ("connections", "connections"),
    ],
)
def test_an_attribute_that_is_no_workers_is_refused(name: str, words: str) -> None:
    worker = Worker("text://127.0.0.1:0")
    with pytest.raises(AttributeError, match=words.replace("?", "\\?")):
        setattr(worker, name, print)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("onMessage", "did you mean on_message?"),
        ("stopAll", "did you mean stop_all?"),
        ("stoping", "did you mean stopping?"),
        ("nonsense", "a Worker has no attribute 'nonsense'$"),
    ],
)
def test_an_attribute_that_is_not_there_is_named(name: str, words: str) -> None:
    with pytest.raises(AttributeError, match=words.replace("?", "\\?")):
        getattr(Worker("text://127.0.0.1:0"), name)


def test_what_is_the_applications_own_may_be_kept_on_a_worker() -> None:
    worker = Worker("text://127.0.0.1:0")
    worker.uid_connections = {1: "a"}
    worker.users = ["b"]
    assert (worker.uid_connections, worker.users) == ({1: "a"}, ["b"])


def test_arguments_may_be_set_as_attributes() -> None:
    worker = Worker("http://127.0.0.1:0")
    worker.count = 4
    worker.idle_timeout = 3
    worker.max_package_size = "64K"
    worker.lockstep = True
    assert worker.declaration().count == 4
    assert worker.declaration().limits == {"idle_timeout": 3, "max_package_size": 65536}
    assert worker.options == {"lockstep": True}
    assert (worker.idle_timeout, worker.lockstep, worker.header_timeout) == (3, True, None)


@pytest.mark.parametrize(
    ("name", "value"), [("count", 0), ("count", "4"), ("idle_timeout", -1), ("lockstep", 1)]
)
def test_and_are_checked_as_such(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{name}="):
        setattr(Worker("http://127.0.0.1:0", name="web"), name, value)


def test_a_subclass_may_have_attributes_of_its_own() -> None:
    class Own(Worker):
        tag = 1

    Own.tag = 2
    Own.registry = {}
    worker = Own("text://127.0.0.1:0")
    worker.tag = 3
    assert (Own.tag, worker.tag) == (2, 3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("stdoutFile", "did you mean Worker.stdout_file?"),
        ("demonize", "did you mean Worker.daemonize?"),
        ("stopTimeout", "there is the setting graceful-timeout"),
        ("eventLoopClass", "the loop is gevent's"),
        ("nonsense", "there are daemonize, stdout_file, log_file, pid_file, in a script"),
        ("on_message", "callbacks belong to one Worker, not to all: worker.on_message = …"),
        (
            "onMasterReload",
            "callbacks belong to one Worker, not to all: worker.on_master_reload = …",
        ),
    ],
)
def test_a_setting_for_all_workers_that_there_is_not(name: str, words: str) -> None:
    with pytest.raises(AttributeError, match=words.replace("?", "\\?")):
        setattr(Worker, name, 1)


# ---- connections


def test_the_words_of_a_connection_are_those_of_the_class_and_of_the_guide() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text()
    for word in CONNECTION:
        assert word == "headers" or hasattr(Connection, word), word
        assert f"`{word}" in guide or f".{word}(" in guide, word


@pytest.mark.parametrize("kind", [Connection, Datagram])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("onMessage", "did you mean on_message?"),
        ("maxSendBufferSize", "did you mean max_send_buffer_size?"),
        ("getRemoteIp", "did you mean remote_ip?"),
        ("pauseRecv", "did you mean pause_recv?"),
        ("timer_id", CONTEXT + "timer_id"),
        ("timerId", CONTEXT + "timerId"),
        ("lastMessageTime", CONTEXT + "lastMessageTime"),
    ],
)
def test_a_connection_names_the_right_word(kind: type, name: str, words: str) -> None:
    one = kind.__new__(kind)
    text = f"a connection has no attribute {name!r}; {words}".replace("?", "\\?")
    with pytest.raises(AttributeError, match=text):
        setattr(one, name, 1)
    with pytest.raises(AttributeError, match=text):
        getattr(one, name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("anything", CONTEXT + "anything"),
        ("remote_prot", "did you mean remote_port?"),
        ("user_id", CONTEXT + "user_id"),
    ],
)
def test_any_other_name_gets_its_hint_in_the_log(name: str, words: str) -> None:
    """Asking for each name that is set would make every message dearer."""
    for kind in (Connection, Datagram):
        with pytest.raises(AttributeError) as caught:
            setattr(kind.__new__(kind), name, 1)
        assert hint_for(caught.value) == f"hint: {words}"
    assert hint_for(AttributeError("'Other' object has no attribute 'uid'")) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("defaultMaxPackageSize", "did you mean default_max_package_size?"),
        ("max_package_size", "for all of them there is Connection.default_max_package_size"),
        ("on_message", "on_message is an attribute of each Connection; set it on one"),
        ("nonsense", "there are default_max_package_size, default_max_send_buffer_size"),
    ],
)
def test_a_setting_for_all_connections_that_there_is_not(name: str, words: str) -> None:
    with pytest.raises(AttributeError, match=words.replace("?", "\\?")):
        setattr(Connection, name, 1)


def test_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "default_max_package_size", 5)
    assert Connection.default_max_package_size == 5


def test_hints_import_no_gevent() -> None:
    """The arbiter formats its log with them."""
    code = "import sys; import gworker.app.attribute_names; print('gevent' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "False\n"


def test_a_connection_hint_names_the_context() -> None:
    assert connection_hint("x") == CONTEXT + "x"
    assert attribute_names.LIKENESS < 1
    assert not static_settings.given


# ---- asyncio


async def run_again() -> None:
    """Run a loop inside a running one, in each way that asyncio refuses."""
    other = asyncio.new_event_loop()
    waiting = asyncio.sleep(0)
    try:
        with pytest.raises(RuntimeError) as nested:
            asyncio.run(waiting)
        with pytest.raises(RuntimeError) as second:
            other.run_forever()
        with pytest.raises(RuntimeError) as same:
            asyncio.get_running_loop().run_forever()
    finally:
        waiting.close()
        other.close()
    assert [hint_for(each.value) for each in (nested, second, same)] == [ASYNCIO] * 3


def test_asyncio_in_a_running_loop() -> None:
    asyncio.run(run_again())


@pytest.mark.parametrize(
    "error", [None, RuntimeError("no"), ValueError("This event loop is already running")]
)
def test_other_errors_have_no_hint(error: BaseException | None) -> None:
    assert hint_for(error) is None
