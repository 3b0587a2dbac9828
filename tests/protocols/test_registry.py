from __future__ import annotations

import ast
import os
import pickle
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

import gworker.protocols as registry
from gworker.app.validation import protocol_of
from gworker.app.worker import Worker
from gworker.errors import ConfigError
from gworker.protocols import NEED_DATA, PackageProtocol, Protocol, get, register


@pytest.fixture(autouse=True)
def fresh_registry(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})


class Mine(PackageProtocol):
    def package_length(self, buffer):
        return 1

    def decode(self, package):
        return package


NAMES = ["tcp", "udp", "text", "frame", "http", "websocket", "ws"]


@pytest.mark.parametrize("name", NAMES)
def test_built_in(name):
    assert issubclass(get(name), Protocol)
    assert get(name) is get(name)


def test_synonyms():
    assert get("ws") is get("websocket")
    assert issubclass(get("udp"), get("tcp"))


@pytest.mark.parametrize("name", [*NAMES[:-1]])
def test_name_is_what_status_shows(name):
    assert get(name).name == name


def test_registered():
    register("mine+1.0", Mine)
    assert get("mine+1.0") is Mine


@pytest.mark.parametrize("name", [*NAMES, "tls", "wss", "https", "unix", "ssl"])
def test_names_with_a_meaning_stay(name):
    with pytest.raises(ValueError, match="built in"):
        register(name, Mine)


@pytest.mark.parametrize("name", ["", "1a", "Mine", "a b", "a:", "ä", "a\n", None])
def test_name_must_be_a_scheme(name):
    with pytest.raises(ValueError, match="URL scheme"):
        register(name, Mine)


@pytest.mark.parametrize("cls", [int, None, Mine(1), "Mine"])
def test_class_must_be_a_protocol(cls):
    with pytest.raises(TypeError, match="subclass of"):
        register("mine", cls)


def test_unknown_name_lists_the_known_ones():
    register("mine", Mine)
    with pytest.raises(
        LookupError, match=r"unknown protocol 'other'; there are frame, http, mine, tcp"
    ):
        get("other")


def test_entry_point(monkeypatch):
    points = EntryPoints(
        [
            EntryPoint("installed", "gworker.protocols.frame:FrameProtocol", registry.ENTRY_POINTS),
            EntryPoint("wrong", "gworker.errors:ConfigError", registry.ENTRY_POINTS),
        ]
    )
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points.select(group=group))
    assert get("installed").name == "frame"
    with pytest.raises(TypeError, match="'wrong' must be a subclass"):
        get("wrong")
    with pytest.raises(LookupError, match="installed"):
        get("other")


def test_an_installed_distribution_brings_a_protocol(tmp_path):
    """With the files that pip makes, found by a new interpreter on its path."""
    information = tmp_path / "telemetry-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: telemetry\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[gworker.protocols]\ntelemetry = telemetry_wire:Telemetry\n"
    )
    (tmp_path / "telemetry_wire.py").write_text(
        "from gworker.protocols import PackageProtocol\n"
        "class Telemetry(PackageProtocol):\n"
        "    def package_length(self, buffer): return 2\n"
        "    def decode(self, package): return package.decode()\n"
    )
    program = (
        "from gworker import Worker\n"
        "from gworker.app import validation\n"
        "worker = Worker('telemetry://127.0.0.1:0')\n"
        "validation.check(worker)\n"
        "wire = validation.protocol_of(worker, worker.listen_url)(100)\n"
        "wire.receive_data(b'abcd')\n"
        "print(type(wire).__name__, wire.next_event(), wire.next_event())\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{PACKAGE.parent}"}
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert result.stdout.split() == ["Telemetry", "ab", "cd"], result.stderr


class NoDecode(PackageProtocol):
    def package_length(self, buffer):
        return 1


class Nothing(Protocol):
    pass


class NoEncode(Protocol):
    def receive_data(self, data):
        pass

    def next_event(self):
        return NEED_DATA


@pytest.mark.parametrize(
    ("cls", "why"),
    [
        (NoDecode, r"NoDecode has no decode\(\)$"),
        (Nothing, r"no next_event\(\) and no receive_data\(\)"),
    ],
)
def test_what_a_class_lacks_is_said_at_once(cls, why):
    with pytest.raises(TypeError, match=why):
        register("lacking", cls)
    with pytest.raises(ConfigError, match=why):
        protocol_of(Worker("tcp://127.0.0.1:0", protocol=cls), "tcp://127.0.0.1:0")


def test_a_class_without_encode_can_only_receive():
    with pytest.raises(TypeError, match=r"NoEncode has no encode\(\)"):
        NoEncode(10).encode("x")


def test_built_in_ones_are_imported_when_asked_for():
    code = (
        "import sys, gworker.protocols as p; p.get('tcp'); print('httptools' in sys.modules);"
        "p.get('http'); print('httptools' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False", "True"]


PACKAGE = Path(registry.__file__).parents[1]
TOUCHES_FILES = {"date.py", "files.py", "forms.py", "static.py"}
"""Modules of gworker.http that read the clock or the file system, which is their purpose."""
FILES = sorted(
    [
        *(PACKAGE / "protocols").rglob("*.py"),
        *(f for f in (PACKAGE / "http").glob("*.py") if f.name not in TOUCHES_FILES),
    ]
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_protocols_know_no_socket_no_clock_and_no_log(file):
    forbidden = {
        "gevent",
        "socket",
        "_socket",
        "ssl",
        "time",
        "logging",
        "select",
        "threading",
        "asyncio",
        "os",
    }
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            assert node.module != "gworker"
        assert not forbidden.intersection(name.partition(".")[0] for name in names)


@pytest.mark.parametrize("name", NAMES)
def test_every_protocol_survives_pickling_with_its_leftovers(name):
    protocol = get(name)(1000)
    protocol.receive_data(b"\0")
    copy = pickle.loads(pickle.dumps(protocol))
    assert copy.take_unparsed() == b"\0"
    assert copy.max_package_size == 1000
    assert not hasattr(protocol, "__dict__")


def test_base_class_leaves_nothing_undefined():
    protocol = NoEncode(5)
    assert protocol.data_to_send() == protocol.close() == protocol.timed_out() == b""
    assert protocol.waiting_for() == ""
    assert not protocol.awaits_peer_close
    for call in (
        lambda: protocol.encode(b""),
        protocol.accept_handshake,
        protocol.refuse_handshake,
    ):
        with pytest.raises(TypeError):
            call()
