"""The tests stand as the code stands: `tests/<package>/test_<module>.py` proves
`gworker/<package>/<module>.py`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import places
import pytest

ELSEWHERE: dict[str, tuple[str, str]] = {
    "app/broadcast.py": ("app/test_worker.py", "what Worker.broadcast does"),
    "app/script.py": ("integration/test_static_settings.py", "it executes the command"),
    "broker/link/calls.py": ("broker/link/test_link.py", "a part of a link"),
    "broker/link/input.py": ("broker/link/test_link.py", "a part of a link"),
    "broker/link/output.py": ("broker/link/test_link.py", "a part of a link"),
    "broker/redis/command.py": ("broker/redis/test_broker.py", "it asks servers"),
    "broker/redis/script.py": ("broker/redis/test_broker.py", "it asks servers"),
    "broker/server/client.py": ("broker/server/test_server.py", "it talks over sockets"),
    "broker/server/commands.py": (
        "broker/server/test_server.py",
        "a table, proved by its commands",
    ),
    "broker/store/arguments.py": ("broker/store/test_store.py", "a part of a store"),
    "broker/store/deadlines.py": ("broker/store/test_store.py", "a part of a store"),
    "broker/store/declarations.py": ("broker/store/test_store.py", "a part of a store"),
    "broker/store/history.py": ("broker/store/test_store.py", "a part of a store"),
    "broker/store/messages.py": ("broker/store/test_store.py", "a part of a store"),
    "broker/store/presence.py": ("broker/store/test_store.py", "a part of a store"),
    "broker/store/values.py": ("broker/store/test_store.py", "a part of a store"),
    "connection/lent_socket.py": ("connection/test_detaching.py", "a connection gives it away"),
    "wsgi/gevent_websocket.py": (
        "integration/test_wsgi_websockets.py",
        "it speaks with the libraries of applications",
    ),
    "wsgi/lazy_socket.py": (
        "integration/test_wsgi_websockets.py",
        "it speaks with the libraries of applications",
    ),
    "wsgi/websocket.py": (
        "integration/test_wsgi_websockets.py",
        "it speaks with the libraries of applications",
    ),
    "broker/redis/check.py": ("broker/redis/test_broker.py", "it asks servers"),
    "broker/redis/composite.py": ("broker/test_conformance.py", "every broker does what it says"),
    "broker/redis/lease.py": ("broker/redis/test_broker.py", "it needs servers"),
    "broker/redis/messages.py": ("broker/redis/test_broker.py", "it needs servers"),
    "broker/redis/nodes.py": ("broker/redis/test_broker.py", "it needs servers"),
    "broker/redis/operations.py": ("broker/test_conformance.py", "every broker does what it says"),
    "broker/redis/subscriptions.py": ("broker/redis/test_broker.py", "it needs servers"),
    "broker/deadline.py": (
        "messages/test_memberships.py",
        "calls of several steps, over brokers that are slow",
    ),
    "broker/interface.py": ("broker/test_conformance.py", "every broker does what it says"),
    "broker/local.py": (
        "broker/link/test_link.py",
        "a link, with the broker process at its other end",
    ),
    "cli/check.py": ("integration/test_commands.py", "it loads a target in processes of its own"),
    "cli/command_table.py": (
        "cli/test_main.py",
        "a table, proved by the commands that are made of it",
    ),
    "cli/publish.py": ("integration/test_publish.py", "it asks a broker"),
    "cli/serve.py": (
        "integration/test_daemon.py",
        "it becomes an arbiter, and imports what processes need",
    ),
    "client/connect.py": ("client/test_dialer.py", "it dials in an event loop"),
    "client/udp.py": ("client/test_connection.py", "it dials in an event loop"),
    "config/runtime_dirs.py": (
        "cli/test_instances.py",
        "the directories in which commands find instances",
    ),
    "connection/attributes.py": (
        "integration/test_connections.py",
        "what the handlers of open connections read",
    ),
    "connection/body_reader.py": (
        "integration/test_http_long.py",
        "bodies come in pieces over real sockets",
    ),
    "connection/callbacks.py": ("connection/test_dispatcher.py", "what the dispatcher is made of"),
    "connection/closing.py": (
        "integration/test_buffers.py",
        "what is owed leaves over real sockets",
    ),
    "connection/connection.py": (
        "integration/test_connections.py",
        "its parts have tests of their own, and this is all of them",
    ),
    "connection/events.py": (
        "connection/test_dispatcher.py",
        "values, which the dispatcher handles",
    ),
    "connection/handler_job.py": (
        "integration/test_handlers.py",
        "it runs a handler for as long as a connection lives",
    ),
    "connection/handlers.py": ("connection/test_dispatcher.py", "what the dispatcher is made of"),
    "connection/sessions.py": ("integration/test_sessions.py", "it needs answers that are sent"),
    "connection/http_protocol.py": (
        "integration/test_http_long.py",
        "answers are cut off over real sockets",
    ),
    "connection/migration.py": (
        "handover/test_sender.py",
        "it lasts while a connection is on its way",
    ),
    "connection/progress.py": (
        "connection/test_idle_timeout.py",
        "what the timers of open connections read",
    ),
    "connection/response_sender.py": (
        "integration/test_http_long.py",
        "answers go in pieces over real sockets",
    ),
    "connection/retiring.py": (
        "connection/test_faulty_protocols.py",
        "the end of a connection with its process",
    ),
    "connection/sending.py": (
        "handover/test_sender.py",
        "messages wait in it while a connection is on its way",
    ),
    "connection/state.py": ("connection/test_dispatcher.py", "the names of numbers"),
    "connection/switching.py": (
        "integration/test_switching.py",
        "protocols change on real connections",
    ),
    "core/answer.py": ("core/test_differential.py", "the other core does the same"),
    "core/fields.py": ("http/test_headers.py", "the grammar of what headers take"),
    "core/headers.py": ("core/test_differential.py", "the other core does the same"),
    "core/parameters.py": ("core/test_differential.py", "the other core does the same"),
    "core/python.py": ("core/test_differential.py", "the other core does the same"),
    "core/request.py": ("core/test_differential.py", "the other core does the same"),
    "handover/departures.py": ("integration/test_messages_handover.py", "it needs a broker"),
    "handover/link.py": (
        "handover/test_sender.py",
        "both ends are proved together, in one event loop",
    ),
    "handover/member_queue.py": ("integration/test_messages_handover.py", "it needs a broker"),
    "handover/parting.py": (
        "handover/test_sender.py",
        "both ends are proved together, in one event loop",
    ),
    "handover/receiver.py": (
        "handover/test_sender.py",
        "both ends are proved together, in one event loop",
    ),
    "master/instance_view.py": ("master/test_status.py", "a value, which the status shows"),
    "master/rollout_events.py": ("master/test_rollout.py", "values, which a rollout handles"),
    "process/mold.py": ("integration/test_preload.py", "it forks"),
    "process/broker_process.py": (
        "integration/test_broker_process.py",
        "it is the life of a process",
    ),
    "process/child.py": ("integration/test_booting.py", "it is a process"),
    "process/computing.py": (
        "integration/test_computing.py",
        "it forks a pool out of a worker process",
    ),
    "process/computing_child.py": ("integration/test_computing.py", "it is a process of that pool"),
    "messages/announcer.py": ("messages/test_messaging.py", "it tells a broker"),
    "messages/background.py": ("messages/test_messaging.py", "it starts a thread"),
    "messages/backlog.py": (
        "messages/handover/test_handover.py",
        "it is what members that move have missed",
    ),
    "messages/caller.py": ("messages/test_messaging.py", "what calls need"),
    "messages/channels.py": ("messages/test_messaging.py", "it is what a process hears of"),
    "messages/client_ids.py": ("messages/test_messaging.py", "it needs connections"),
    "messages/control.py": ("messages/test_messaging.py", "it is about the members of a process"),
    "messages/distribution.py": (
        "messages/test_messaging.py",
        "it is about the members of a process",
    ),
    "messages/functions.py": ("messages/test_messaging.py", "it needs greenlets"),
    "messages/gaps.py": ("messages/test_messaging.py", "it calls a callback"),
    "messages/handover/arrival.py": ("messages/handover/test_handover.py", "it is one end"),
    "messages/handover/departure.py": ("messages/handover/test_handover.py", "it is the other end"),
    "messages/handover/moved.py": ("messages/handover/test_handover.py", "a value"),
    "messages/handover/successor.py": (
        "messages/handover/test_handover.py",
        "it needs members that move",
    ),
    "messages/holds.py": ("messages/recovery/test_recovery.py", "it is about members that join"),
    "messages/host.py": ("messages/test_messaging.py", "it is what a process is"),
    "messages/membership.py": ("messages/test_messaging.py", "it is a part of a connection"),
    "messages/orders.py": ("messages/test_messaging.py", "it is about the members of a process"),
    "messages/presence/callbacks.py": ("messages/presence/test_presence.py", "it calls a callback"),
    "messages/presence/due_leaves.py": ("messages/presence/test_presence.py", "it asks a broker"),
    "messages/presence/events.py": (
        "messages/presence/test_presence.py",
        "it tells other processes",
    ),
    "messages/presence/exits.py": ("messages/presence/test_presence.py", "it tells a broker"),
    "messages/presence/lost_data.py": ("messages/presence/test_presence.py", "it asks a broker"),
    "messages/publishing.py": ("messages/test_messaging.py", "it asks a broker"),
    "messages/queries.py": ("messages/test_messaging.py", "it asks a broker"),
    "messages/recipients.py": (
        "messages/test_messaging.py",
        "it is about the members of a process",
    ),
    "messages/recovery/catch_up.py": ("messages/recovery/test_recovery.py", "it asks a broker"),
    "messages/recovery/incidents.py": ("messages/recovery/test_recovery.py", "it needs threads"),
    "messages/recovery/joins.py": ("messages/recovery/test_recovery.py", "it needs connections"),
    "messages/recovery/position_check.py": (
        "messages/recovery/test_recovery.py",
        "it asks a broker",
    ),
    "messages/recovery/positions.py": ("messages/recovery/test_recovery.py", "it asks a broker"),
    "messages/recovery/single_flight.py": (
        "messages/recovery/test_recovery.py",
        "it needs threads",
    ),
    "messages/remote_control.py": ("messages/test_messaging.py", "it tells other processes"),
    "messages/shared_data.py": ("messages/test_messaging.py", "it asks a broker"),
    "messages/single_binds.py": ("messages/test_messaging.py", "it tells other processes"),
    "messages/stored_history.py": ("messages/recovery/test_recovery.py", "it asks a broker"),
    "messages/stream_position.py": (
        "messages/recovery/test_recovery.py",
        "it is a part of a channel",
    ),
    "messages/subscriptions.py": ("messages/test_messaging.py", "it asks a broker"),
    "messages/sweeper.py": ("messages/test_messaging.py", "it forgets what other modules have"),
    "process/brokers.py": ("messages/test_messaging.py", "it needs an event loop"),
    "process/graceful_shutdown.py": (
        "integration/test_retirement.py",
        "it is the end of a process",
    ),
    "process/interpreter_exit.py": (
        "integration/test_system_exits.py",
        "it is the end of a process",
    ),
    "process/worker_process.py": ("integration/test_connections.py", "it is the life of a process"),
    "protocols/websocket/opening.py": (
        "protocols/websocket/test_server.py",
        "it is a part of a WebSocket that is not open",
    ),
    "system/event_loop.py": ("test_docs.py", "types for annotations alone"),
    "wsgi/exchange.py": ("integration/test_wsgi.py", "it is a part of a connection"),
    "wsgi/host.py": ("integration/test_wsgi.py", "it answers the requests of a process"),
    "version.py": ("cli/test_main.py", "one word, which `gworker --version` shows"),
}
"""Modules without a test file of their name: which file proves them, and why it is another one."""

ABOUT_MORE = {
    "broker/test_instances.py": "instances of gworker while servers fail over, or hang",
    "messages/test_bounds.py": "what waits is bounded, wherever it waits",
    "broker/test_conformance.py": "every broker: each operation",
    "broker/test_conformance_model.py": "every broker: any sequence of operations",
    "core/test_differential.py": "both cores, with the same bytes",
    "core/test_differential_connections.py": "both cores, with the same reads",
    "core/test_large_messages.py": "both cores: bodies that end, stop or go on midway",
    "core/test_leaks.py": "both cores: what they keep",
    "core/test_packaging.py": "the package itself: which core is built, and which one runs",
    "connection/test_send_to_all.py": "a message to many: both cores, and what is left out",
    "connection/test_faulty_protocols.py": "every method of a protocol, wherever it is called",
    "master/test_reload_settings.py": "settings of a reload, from the file to the last process",
    "protocols/test_registry.py": "the package itself: names of protocols",
    "protocols/test_split.py": "`split` of every protocol",
}
"""Test files in a package that have no module of their name: what they prove."""

MAX_LINES = 10
"""Lines of a text in a test; longer ones are files, which are linted."""


def modules() -> Iterator[str]:
    for path in sorted((places.ROOT / "gworker").rglob("*.py")):
        if path.name not in ("__init__.py", "__main__.py"):
            yield str(path.relative_to(places.ROOT / "gworker"))


def file_of(module: str) -> Path:
    path = Path(module)
    return places.TESTS / path.parent / f"test_{path.name}"


def test_each_module_has_a_test_file_of_its_name() -> None:
    without = [each for each in modules() if not file_of(each).exists()]
    assert [each for each in without if each not in ELSEWHERE] == []


@pytest.mark.parametrize("module", ELSEWHERE)
def test_what_is_proved_elsewhere(module: str) -> None:
    where, reason = ELSEWHERE[module]
    assert (places.ROOT / "gworker" / module).exists(), "there is no such module"
    assert not file_of(module).exists(), "it has a test file"
    assert (places.TESTS / where).exists(), f"there is no {where}"
    assert reason


def test_each_test_file_in_a_package_is_about_a_module_of_its_name() -> None:
    packages = {path.parent for path in (places.ROOT / "gworker").rglob("__init__.py")}
    found = {
        str(test.relative_to(places.TESTS))
        for package in packages - {places.ROOT / "gworker"}
        for test in file_of(str(package.relative_to(places.ROOT / "gworker") / "x")).parent.glob(
            "test_*.py"
        )
        if not (package / test.name.removeprefix("test_")).exists()
    }
    assert found == set(ABOUT_MORE)


def texts(tree: ast.Module) -> Iterator[ast.expr]:
    """The literals of a file, without its docstrings and the comments behind attributes."""
    said = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
    for each in ast.walk(tree):
        is_text = isinstance(each, ast.Constant) and isinstance(each.value, str | bytes)
        if (is_text or isinstance(each, ast.JoinedStr)) and id(each) not in said:
            yield each


def test_programs_are_files() -> None:
    long = [
        f"{path.relative_to(places.ROOT)}:{each.lineno}"
        for path in sorted(places.TESTS.rglob("*.py"))
        for each in texts(ast.parse(path.read_text()))
        if (each.end_lineno or 0) - each.lineno >= MAX_LINES
    ]
    assert long == []
