"""What is measured: the yardstick, gworker and its peers, each a command that serves one service on
one port."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import trustme
from cryptography.hazmat.primitives import serialization
from measure import BIN, HERE, ROOT, BenchmarkError, Server, free_port

CROWD = 10_000
"""Connections that a broadcast goes to."""
HOLES = "holes"
"""The file that is sent."""
SOCKET = "echo.sock"
"""The unix socket, in the private directory, of services that listen on one as well."""

PEERS_CODE = HERE / "peers"
PEERS_ENVIRONMENT = HERE / "environment"
"""The environment of the peers: `make bench` makes it."""
PEERS_PYTHON = PEERS_ENVIRONMENT / "bin" / "python"
NODE_PATH = str(PEERS_ENVIRONMENT / "node_modules")

MODES = {
    **dict.fromkeys(("hello", "wsgi", "read", "respond", "document", "upload", "sleepy"), "http"),
    **dict.fromkeys(("slow", "sender", "table"), "http"),
    **dict.fromkeys(("moving", "crowd", "rooms", "apart", "publishers"), "ws"),
    **dict.fromkeys(("sleeper", "both"), "tcp"),
}
"""What a client speaks with a service. Of the others the name says it."""

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of a server. `certificate` and `key` exist if the service is one over TLS."""

    service: str
    port: int
    directory: Path
    certificate: Path
    key: Path

    @property
    def mode(self) -> str:
        return MODES.get(self.service, self.service)

    @property
    def secure(self) -> bool:
        return self.mode in ("tls", "https")

    def words(self, line: str) -> list[str]:
        """The words of a command line with {service}, {port}, {certificate} and {key} filled in."""
        values = {
            "service": self.service,
            "port": self.port,
            "certificate": self.certificate,
            "key": self.key,
        }
        return [word.format_map(values) for word in line.split()]


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """One server. `services` names what it can serve, None is all; `probe` is a command that prints
    its version, and fails where it is not installed."""

    name: str
    command: Callable[[Launch], list[str]]
    services: frozenset[str] | None = None
    probe: tuple[str, ...] = ("true",)
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = ROOT

    def serves(self, service: str) -> bool:
        return self.services is None or service in self.services

    def version(self) -> str:
        """Raises BenchmarkError if it cannot be started here."""
        environment = os.environ | self.environment
        try:
            done = subprocess.run(
                self.probe, cwd=self.cwd, env=environment, capture_output=True, text=True,
                timeout=60, check=False,
            )  # fmt: skip
        except OSError as error:
            raise BenchmarkError(f"{self.name}: {error}") from error
        if done.returncode:
            said = [line.strip() for line in done.stderr.splitlines() if "Error" in line]
            why = said[-1] if said else f"{self.probe} exits with {done.returncode}"
            raise BenchmarkError(f"{self.name}: {why}")
        return done.stdout.strip()

    def serve(self, service: str, directory: Path) -> Server:
        """A server that is not started yet, with a free port and a private directory below
        `directory`."""
        private = directory / str(next(_numbers))
        private.mkdir(mode=0o700)
        launch = Launch(
            service, free_port(), private, directory / "cert.pem", directory / "key.pem"
        )
        if launch.secure and not launch.key.exists():
            write_certificate(launch.certificate, launch.key)
        environment = {
            "BENCH_PORT": str(launch.port),
            "BENCH_SOCKET": str(private / SOCKET),
            "BENCH_CERTIFICATE": str(launch.certificate),
            "BENCH_KEY": str(launch.key),
            "BENCH_CROWD": str(CROWD),
            "BENCH_HOLES": str(directory / HOLES),
            **self.environment,
        }
        command = self.command(launch)
        return Server(self.name, launch.mode, launch.port, command, private, environment, self.cwd)


def write_certificate(certificate: Path, key: Path) -> None:
    """An ECDSA certificate, and its key in PKCS #8, which every server reads."""
    issued = trustme.CA().issue_cert("localhost")
    certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    private = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def python_path(tree: Path) -> str:
    """Worker processes inherit it; the package need not be installed."""
    return os.pathsep.join(filter(None, [str(tree), os.environ.get("PYTHONPATH")]))


GWORKER_VERSION = """
import platform
import gevent
from gworker.version import __version__
try:
    from gworker.core import IMPLEMENTATION as core
except ImportError:
    core = "none"
python = platform.python_version()
print(f"{__version__}, core: {core}, gevent {gevent.__version__}, Python {python}")
"""
NODE_VERSION = "console.log(process.version + ', ws ' + require('ws/package.json').version)"


def gworker(
    name: str = "gworker",
    *,
    tree: Path = ROOT,
    python: str = sys.executable,
    pure: bool = False,
    workers: int = 1,
    app: str = "apps.py",
    options: Sequence[str] = (),
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Subject:
    """The gworker of a checkout, in an interpreter that has what it needs; `pure` makes it do
    without compiled code. `options` of the command and `variables` of the environment are further
    ones."""

    def command(launch: Launch) -> list[str]:
        service = f"{HERE / app}:{launch.service}"
        usual = ["--runtime-dir", str(launch.directory), "--graceful-timeout", "5"]
        return [python, "-m", "gworker", service, *usual, "-w", str(workers), *options]

    environment = {"PYTHONPATH": python_path(tree), **variables}
    if pure:
        environment["GWORKER_PURE"] = "1"
    probe = (python, "-c", GWORKER_VERSION)
    return Subject(name, command, probe=probe, environment=environment, cwd=tree)


def yardstick_command(launch: Launch) -> list[str]:
    return [str(BIN / "echo"), str(launch.port)]


YARDSTICK = Subject("C echo", yardstick_command, frozenset({"tcp"}))

BODILESS = frozenset({"hello", "read", "respond"})
HTTP = BODILESS | {"document", "upload"}
WSGI = HTTP | {"wsgi"}


def peer(name: str, services: frozenset[str], packages: str, line: str, tls: str = "") -> Subject:
    """A peer in Python: the command line behind the interpreter, and what TLS adds to it."""

    def command(launch: Launch) -> list[str]:
        secure = launch.words(tls) if launch.secure else []
        return [str(PEERS_PYTHON), *launch.words(line), *secure]

    package = packages.partition(",")[0]
    show = f"import {packages}, importlib.metadata as m; print(m.version('{package}'))"
    probe = (str(PEERS_PYTHON), "-c", show)
    return Subject(name, command, services, probe, cwd=PEERS_CODE)


def node_command(launch: Launch) -> list[str]:
    secure = launch.words("{certificate} {key}") if launch.secure else []
    return ["node", *launch.words("server.js {service} {port}"), *secure]


PEERS = (
    peer(
        "uvloop",
        frozenset({"tcp", "text", "frame", "tls"}),
        "uvloop",
        "streams.py {service} {port}",
        tls="{certificate} {key}",
    ),
    peer("picows", frozenset({"ws"}), "picows", "streams.py {service} {port}"),
    peer("bjoern", WSGI, "bjoern", "wsgi.py {service} {port}"),
    peer(
        "granian",
        WSGI | {"https"},
        "granian",
        "-m granian --interface wsgi --port {port} wsgi:{service}",
        tls="--ssl-certificate {certificate} --ssl-keyfile {key}",
    ),
    peer(
        "uvicorn",
        HTTP | {"ws", "sleepy", "https"},
        "uvicorn",
        "-m uvicorn asgi:{service} --port {port} --backlog 4096 --loop uvloop --http httptools "
        "--no-access-log --lifespan off --ws-per-message-deflate false --ws-ping-interval 3600",
        tls="--ssl-certfile {certificate} --ssl-keyfile {key}",
    ),
    peer("socketify", BODILESS | {"ws"}, "socketify", "socketify_app.py {service} {port}"),
    peer(
        "gunicorn gevent",
        WSGI | {"sleepy", "https"},
        "gunicorn, gevent, packaging",
        "-m gunicorn -k gevent -b 127.0.0.1:{port} --no-control-socket wsgi:{service}",
        tls="--certfile {certificate} --keyfile {key}",
    ),
    peer(
        "gunicorn gthread",
        frozenset({"wsgi"}),
        "gunicorn, packaging",
        "-m gunicorn -k gthread --threads 8 -b 127.0.0.1:{port} --no-control-socket wsgi:{service}",
    ),
    peer(
        "waitress",
        frozenset({"wsgi"}),
        "waitress",
        "-m waitress --listen 127.0.0.1:{port} --threads 8 wsgi:{service}",
    ),
    Subject(
        "node",
        node_command,
        HTTP | {"ws", "sleepy", "https"},
        ("node", "-e", NODE_VERSION),
        {"NODE_PATH": NODE_PATH},
        PEERS_CODE,
    ),
)
