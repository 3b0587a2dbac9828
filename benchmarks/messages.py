"""Rows about messages between processes: what they cost, how long they take, and what is lost."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import psutil
from cost import SETTLE_SECONDS, Settings
from deploys import reload_once
from measure import (
    CORES,
    HERE,
    ROOT,
    Client,
    Server,
    answers,
    cpu_seconds,
    free_port,
    run_load,
    wait_until,
)
from redis_servers import RedisServer, cluster, redis
from report import Row
from subjects import PEERS_CODE, PEERS_PYTHON, YARDSTICK, gworker, python_path

CLUSTER = "bench"
GROUP, PROCESSES = 10_000, 4
PAIRS = 100
ROOM_MEMBERS, ROOMS = 1_000, 100
LATENCY_MEMBERS, LATENCY_RATE = 1_000, 10
MEMBERSHIP_CONNECTIONS, MEMBERSHIP_GROUPS = 1_000, 100
LOADED_MEMBERS, LOADED_GROUPS, LOADED_RATE, LOADED_PUBLISHERS = 3_000, 100, 200, 10
RELOADS = 5
NODES, STUBS, STUB_GROUPS = 3, 10, 12_000
FULL, SPARSE = (1, 16), (20, 16)
"""Processes for which a stub stands, and commands that it has in flight at each server."""
LEAVE_SECONDS = 3.5
"""A leave is told 3 seconds late."""


def serve_rooms(
    settings: Settings,
    service: str = "rooms",
    *,
    workers: int = 1,
    broker: RedisServer | None = None,
    variables: Mapping[str, str] | None = None,
) -> Server:
    """gworker with rooms_app.py, not started yet; `broker` None is the local one."""
    options = ["--broker", broker.url, "--cluster-name", CLUSTER] if broker else []
    subject = gworker(
        python=settings.python,
        app="rooms_app.py",
        workers=workers,
        options=options,
        variables=variables or {},
    )
    return subject.serve(service, settings.directory)


class Rooms(Client):
    """A running rooms.c."""

    def __init__(self, ports: Sequence[int], members: int, groups: int, **options: object) -> None:
        words = [
            f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
            for name, value in options.items()
        ]
        super().__init__(["rooms", joined(ports), str(members), str(groups), *words])

    def start(self) -> None:
        self.expect("ready", 130)
        self.expect("start", 20)

    def end(self, seconds: float) -> dict[str, Any]:
        self.expect("end", seconds)
        return self.result(10)


@dataclass(frozen=True, slots=True)
class Sample:
    """What a client found in a window, and the CPU seconds that each process took for it."""

    found: dict[str, Any]
    spent: list[float]

    @property
    def cpu_us(self) -> float:
        """CPU time of all processes for each message that was delivered."""
        return sum(self.each_us)

    @property
    def each_us(self) -> list[float]:
        return [spent / self.found["delivered"] * 1e6 for spent in self.spent]


def joined(ports: Sequence[int]) -> str:
    return ",".join(map(str, ports))


def one_window(
    settings: Settings, rooms: Rooms, processes: Callable[[], Sequence[psutil.Process]]
) -> Sample:
    """What one window of load costs these processes. Raises BenchmarkError unless every message
    has arrived, once and in order."""
    with rooms:
        rooms.start()
        measured = processes()
        before = [cpu_seconds([each]) for each in measured]
        rooms.expect("end", settings.seconds + 20)
        after = [cpu_seconds([each]) for each in measured]
        spent = [end - begin for begin, end in zip(before, after, strict=True)]
        found = rooms.result(10)
        faults = ("lost", "doubled", "disordered", "disconnected", "refused")
        if not found["delivered"] or any(found[fault] for fault in faults):
            raise rooms.fault(f"lost connections or messages: {found}")
    return Sample(found, spent)


def yardstick(settings: Settings) -> float:
    """Microseconds of the C echo for a message."""
    with YARDSTICK.serve("tcp", settings.directory) as server:
        return run_load(server, {}, seconds=settings.seconds).cpu_us


def titled(server: Server, title: str) -> list[psutil.Process]:
    """The one process of the server that has this in its title."""
    found = [
        child
        for child in server.root.children(recursive=True)
        if title in " ".join(child.cmdline())
    ]
    if len(found) != 1:
        raise server.fault(f"{len(found)} processes have {title!r} in their titles")
    return found


def row(
    section: str, name: str, values: Sequence[float], unit: str, target: float | None = None,
    note: str = "",
) -> Row:  # fmt: skip
    spread = (min(values), max(values)) if len(values) > 1 else None
    return Row(section, name, median(values), unit, target, spread=spread, note=note)


def say(*words: object) -> None:
    print(" ", *words, flush=True)


# -- one large group


def group(settings: Settings) -> list[Row]:
    """A message to a group whose members are in several processes, relative to a broadcast to as
    many connections of one process."""
    ratios, one, several = [], [], []
    for _ in range(settings.rounds):
        with serve_rooms(settings, "crowd") as server:
            alone = fan_out(settings, server)
        with serve_rooms(settings, workers=PROCESSES) as server:
            spread = fan_out(settings, server)
        say(f"broadcast {alone.cpu_us:.2f} µs, group {spread.cpu_us:.2f} µs")
        one.append(alone.cpu_us)
        several.append(spread.cpu_us)
        ratios.append(spread.cpu_us / alone.cpu_us)
    what = f"group of {GROUP} over {PROCESSES} processes"
    return [
        row("group", "Worker.broadcast in one process, for each member", one, "µs"),
        row("group", f"{what}, for each member", several, "µs"),
        row("group", f"{what}, relative to the broadcast", ratios, "×", 1.25),
    ]


def fan_out(settings: Settings, server: Server) -> Sample:
    rooms = Rooms([server.port], GROUP, 1, seconds=settings.seconds)
    return one_window(settings, rooms, server.processes)


# -- one message from process to process


def routed(settings: Settings) -> list[Row]:
    """The broker process, for each message from one process to another."""
    ratios, costs = [], []
    for _ in range(settings.rounds):
        base = yardstick(settings)
        with serve_apart(settings) as (server, rooms):
            sample = one_window(settings, rooms, lambda: titled(server, "gworker: broker"))
        say(f"C echo {base:.2f} µs, broker process {sample.cpu_us:.2f} µs")
        costs.append(sample.cpu_us)
        ratios.append(sample.cpu_us / base)
    what = f"broker process, a message of {PAIRS} busy publishers"
    return [row("routed", what, ratios, "×", 2.5, f"{median(costs):.2f} µs")]


@contextlib.contextmanager
def serve_apart(
    settings: Settings, broker: RedisServer | None = None
) -> Iterator[tuple[Server, Rooms]]:
    """Members in one process, publishers in another; and the load."""
    other = free_port()
    variables = {"BENCH_OTHER_PORT": str(other)}
    with serve_rooms(settings, "apart", broker=broker, variables=variables) as server:
        wait_until(lambda: answers("ws", other), 20, "an answer of the publishers' process")
        yield server, pairs(settings, server.port, other)


def pairs(settings: Settings, port: int, publish_port: int) -> Rooms:
    options = {"publish_ports": publish_port, "publishers": PAIRS, "seconds": settings.seconds}
    return Rooms([port], PAIRS, PAIRS, **options)


def received(settings: Settings) -> list[Row]:
    """A process that gets messages over Redis and delivers them, and the least that Python needs
    for it."""
    floors, costs, published, ratios = [], [], [], []
    for _ in range(settings.rounds):
        base = yardstick(settings)
        with redis(settings.directory) as server:
            floor = least(settings, server)
            with serve_apart(settings, server) as (instance, rooms):
                sample = one_window(settings, rooms, partial(both_processes, instance))
        cost, publishing = sample.each_us
        say(f"C echo {base:.2f} µs, floor {floor.cpu_us:.2f}, members {cost:.2f}, {publishing:.2f}")
        floors.append(floor.cpu_us / base)
        costs.append(cost)
        published.append(publishing)
        ratios.append(cost / base)
    return [
        row("received", "hiredis and sockets alone", floors, "×"),
        row(
            "received",
            "a message over Redis to a member",
            ratios,
            "×",
            4.0,
            f"{median(costs):.1f} µs",
        ),
        row("received", "the publishers' process, for each message", published, "µs"),
    ]


def both_processes(server: Server) -> list[psutil.Process]:
    return [*titled(server, " rooms#"), *titled(server, " publishers#")]


def least(settings: Settings, broker: RedisServer) -> Sample:
    """The same with floor.py in place of the members' process."""
    directory = settings.directory / f"floor-{broker.port}"
    directory.mkdir()
    port, other = free_port(), free_port()
    line = [settings.python, str(HERE / "floor.py"), str(port), str(broker.port), CLUSTER]
    environment = {"PYTHONPATH": python_path(ROOT)}
    variables = {"BENCH_OTHER_PORT": str(other)}
    publishers = serve_rooms(settings, "publishers", broker=broker, variables=variables)
    publishers.port = other
    with publishers, Server("floor", "ws", port, line, directory, environment) as server:
        return one_window(settings, pairs(settings, port, other), server.processes)


# -- rooms of the peers


@dataclass(frozen=True, slots=True)
class RoomServer:
    """A server of rooms over Redis, not started yet: where its processes listen, and what rooms.c
    has to know of it."""

    server: Server
    ports: Sequence[int]
    options: Mapping[str, object] = field(default_factory=dict)


def rooms_of_gworker(settings: Settings, broker: RedisServer) -> RoomServer:
    server = serve_rooms(settings, workers=PROCESSES, broker=broker)
    return RoomServer(server, [server.port])


def rooms_of_socketio(settings: Settings, broker: RedisServer) -> RoomServer:
    words = ["socketio_rooms.py", "{port}", broker.url]
    path = "/socket.io/?EIO=4&transport=websocket"
    return copies(settings, "python-socketio", broker, words, {"path": path, "socketio": True})


def rooms_of_channels(settings: Settings, broker: RedisServer) -> RoomServer:
    line = (
        "-m uvicorn channels_rooms:application --port {port} --backlog 4096 --loop uvloop "
        "--http httptools --no-access-log --lifespan off --ws-per-message-deflate false"
    )
    return copies(settings, "Django Channels", broker, line.split(), {})


def copies(
    settings: Settings,
    name: str,
    broker: RedisServer,
    words: Sequence[str],
    options: Mapping[str, object],
) -> RoomServer:
    """Processes with a port each, so that they have the same number of clients."""
    ports = [free_port() for _ in range(PROCESSES)]
    directory = settings.directory / f"copies-{ports[0]}"
    directory.mkdir()
    python = str(PEERS_PYTHON)
    line = [python, "copies.py", joined(ports), python, *words]
    environment = {"BENCH_REDIS": broker.url}
    server = Server(name, "ws", ports[0], line, directory, environment, PEERS_CODE)
    return RoomServer(server, ports, options)


PEER_ROOMS: Mapping[str, Callable[[Settings, RedisServer], RoomServer]] = {
    "python-socketio": rooms_of_socketio,
    "Django Channels": rooms_of_channels,
}
PEER_PACKAGES = {
    "python-socketio": "socketio, gevent, geventwebsocket, redis",
    "Django Channels": "channels, channels_redis, uvicorn, websockets",
}
SHAPES = {
    f"a room of {ROOM_MEMBERS}": (ROOM_MEMBERS, 1),
    f"{ROOMS} rooms of {ROOM_MEMBERS // ROOMS}": (ROOM_MEMBERS, ROOMS),
}


def peer_rooms(settings: Settings) -> list[Row]:
    """Rooms over Redis on gworker and its peers: processor time of all processes, Redis included,
    for each message that is delivered."""
    servers = {"gworker": rooms_of_gworker}
    for name, serve in PEER_ROOMS.items():
        command = [str(PEERS_PYTHON), "-c", f"import {PEER_PACKAGES[name]}"]
        if PEERS_PYTHON.exists() and not subprocess.run(command, check=False).returncode:
            servers[name] = serve
        else:
            say(f"{name} is left out, as it cannot be imported here")
    rows = []
    for shape, (members, groups) in SHAPES.items():
        costs = defaultdict(list)
        for _ in range(settings.rounds):
            for name, serve in servers.items():
                sample = room_load(settings, serve, members, groups)
                costs[name].append(sample.cpu_us)
                say(f"{shape}: {name} {1e6 / sample.cpu_us:.0f} delivered in a CPU second")
        ours = costs.pop("gworker")
        rows.append(row("rooms", f"{shape}: gworker, for each member", ours, "µs"))
        for name, theirs in costs.items():
            ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
            note = f"{median(theirs):.1f} µs"
            rows.append(row("rooms", f"{shape}: relative to {name}", ratios, "×", 0.2, note))
    return rows


def room_load(
    settings: Settings,
    serve: Callable[[Settings, RedisServer], RoomServer],
    members: int,
    groups: int,
) -> Sample:
    with redis(settings.directory) as broker:
        found = serve(settings, broker)
        with found.server as server:
            for port in found.ports:
                wait_until(partial(answers, "ws", port), 20, f"an answer of {server.name}")
            options = {"publishers": PROCESSES, "seconds": settings.seconds, **found.options}
            rooms = Rooms(found.ports, members, groups, **options)
            return one_window(settings, rooms, lambda: [*server.processes(), broker.process])


# -- latency and memory


def latency(settings: Settings) -> list[Row]:
    """From the moment when a client sends until the last member has the message, when little else
    is to do."""
    with redis(settings.directory) as broker:
        return [
            *latency_of(settings, "local", None, 15.0),
            *latency_of(settings, "Redis", broker, 20.0),
        ]


def latency_of(
    settings: Settings, name: str, broker: RedisServer | None, target: float
) -> list[Row]:
    middles, tails = [], []
    for _ in range(settings.rounds):
        server = serve_rooms(settings, workers=PROCESSES, broker=broker)
        server.cores = CORES
        with server:
            seconds = settings.seconds * 5
            rooms = Rooms([server.port], LATENCY_MEMBERS, 1, rate=LATENCY_RATE, seconds=seconds)
            with rooms:
                rooms.start()
                found = rooms.end(seconds + 20)
        say(f"{name}: {found['p50_us']} µs, p99 {found['p99_us']} µs, most {found['max_us']} µs")
        middles.append(found["p50_us"] / 1e3)
        tails.append(found["p99_us"] / 1e3)
    what = f"{name}: the last of {LATENCY_MEMBERS} members"
    return [
        row("latency-group", f"{what}, p50", middles, "ms"),
        row("latency-group", f"{what}, p99", tails, "ms", target),
    ]


def membership(settings: Settings) -> list[Row]:
    """What a process grows by for each group that a connection joins."""
    shared, own = [], []
    many = MEMBERSHIP_CONNECTIONS * MEMBERSHIP_GROUPS
    for _ in range(settings.rounds):
        one = memory_with(settings, MEMBERSHIP_GROUPS, 1)
        shared.append(
            (memory_with(settings, MEMBERSHIP_GROUPS, MEMBERSHIP_GROUPS) - one)
            / (many - MEMBERSHIP_CONNECTIONS)
        )
        own.append((memory_with(settings, many, MEMBERSHIP_GROUPS) - one) / many)
        say(f"{shared[-1]:.0f} bytes; {own[-1]:.0f} with a group for each membership")
    what = f"{MEMBERSHIP_CONNECTIONS} connections in {MEMBERSHIP_GROUPS} groups"
    return [
        row("membership", f"{what}: each membership", shared, "bytes", 250),
        row("membership", f"{what} of their own: each membership", own, "bytes"),
    ]


def memory_with(settings: Settings, groups: int, joins: int) -> int:
    with serve_rooms(settings) as server:
        members = MEMBERSHIP_CONNECTIONS
        with Rooms([server.port], members, groups, joins=joins, hold=True, seconds=60) as rooms:
            rooms.start()
            time.sleep(SETTLE_SECONDS)
            rss = titled(server, " rooms#")[0].memory_info().rss
            rooms.finish()
            rooms.end(20)
    return int(rss)


# -- deploys and failures under load


def load_groups(server: Server) -> Rooms:
    return Rooms(
        [server.port],
        LOADED_MEMBERS,
        LOADED_GROUPS,
        publishers=LOADED_PUBLISHERS,
        rate=LOADED_RATE,
        seconds=300,
    )


LOADED = f"{LOADED_MEMBERS} members, {LOADED_RATE} publishes a second"


def reload_group(settings: Settings) -> list[Row]:
    """Members and publishers over reloads with handover: exact counts, so once is enough."""
    server = serve_rooms(settings, workers=PROCESSES, variables={"BENCH_PRESENCE": "1"})
    server.cores = CORES
    with server, load_groups(server) as rooms:
        rooms.expect("ready", 130)
        time.sleep(LEAVE_SECONDS)
        rooms.expect("start", 20)
        for _ in range(RELOADS):
            reload_once(server, LOADED_MEMBERS + LOADED_PUBLISHERS)
        time.sleep(LEAVE_SECONDS)
        rooms.finish()
        found = rooms.end(20)
    say(found)
    what = f"{LOADED}, {RELOADS} reloads"
    return [
        Row("reload-group", f"{what}: messages delivered", found["arrived"], ""),
        Row("reload-group", f"{what}: lost", found["lost"], "", 0),
        Row("reload-group", f"{what}: doubled", found["doubled"], "", 0),
        Row("reload-group", f"{what}: out of order", found["disordered"], "", 0),
        Row("reload-group", f"{what}: joins and leaves seen", found["presence"], "", 0),
        Row("reload-group", f"{what}: disconnected", found["disconnected"], "", 0),
        Row("reload-group", f"{what}: longest way to all members", found["max_us"] / 1e3, "ms"),
    ]


def kill_broker(settings: Settings) -> list[Row]:
    """SIGKILL of the broker process: what members of recoverable groups notice."""
    silences = []
    total: Counter[str] = Counter()
    for _ in range(settings.rounds):
        variables = {"BENCH_MODE": "recoverable", "BENCH_FATES": "1"}
        server = serve_rooms(settings, workers=PROCESSES, variables=variables)
        server.cores = CORES
        with server, load_groups(server) as rooms:
            rooms.start()
            time.sleep(2)
            titled(server, "gworker: broker")[0].kill()
            time.sleep(5)
            rooms.finish()
            found = rooms.end(20)
        say(found)
        if not found["acknowledged"]:
            raise server.fault("nothing was published")
        silences.append(found["silence_ms"] / 1e3)
        total.update({name: found[name] for name in ("disconnected", "silent", "lost", "told")})
        total["refused"] += found["refused"]
        total["doubled"] += found["doubled"] + found["disordered"]
    return [
        Row(
            "kill-broker",
            f"{LOADED}, {settings.rounds} kills: disconnected",
            total["disconnected"],
            "",
            0,
        ),
        row("kill-broker", "publishing again after", silences, "s", 1.0),
        Row("kill-broker", "publishes that were refused", total["refused"], ""),
        Row("kill-broker", "members that were told of a gap", total["told"], ""),
        Row("kill-broker", "messages that members did not get", total["lost"], ""),
        Row("kill-broker", "… of them published, and the member not told", total["silent"], "", 0),
        Row("kill-broker", "doubled or out of order", total["doubled"], "", 0),
    ]


# -- a Redis cluster


def redis_cluster(settings: Settings) -> list[Row]:
    """What a delivery costs the servers of a cluster: with few links, on which many go in one
    write, and with many links, on which few do."""
    with cluster(settings.directory, NODES) as nodes:
        rows = []
        for links, window in (FULL, SPARSE):
            costs, rates = defaultdict(list), defaultdict(list)
            for share in (1, STUBS) * settings.rounds:
                found, spent = run_stubs(settings, nodes, share, links, window)
                rates[share].append(found["received"] / spent)
                costs[share].append(spent / found["published"] * 1e6)
                say(f"{links * STUBS} processes, a message to {share}: {rates[share][-1]:.0f}")
            one, several = median(costs[1]), median(costs[STUBS])
            each = (several - one) / (STUBS - 1)
            what = f"{links * STUBS} processes"
            second = "deliveries in a second of a core"
            rows += [
                row("redis-cluster", f"{what}, a message to 1: {second}", rates[1], ""),
                row("redis-cluster", f"{what}, a message to {STUBS}: {second}", rates[STUBS], ""),
                Row("redis-cluster", f"{what}: a publish without deliveries", one - each, "µs"),
                Row("redis-cluster", f"{what}: each delivery", each, "µs"),
            ]
    return rows


def run_stubs(
    settings: Settings, nodes: Sequence[RedisServer], share: int, links: int, window: int
) -> tuple[Counter[str], float]:
    """What 10 stubs did, and the CPU seconds of the servers."""
    ports = joined([node.port for node in nodes])
    stubs = []
    with contextlib.ExitStack() as stack:
        for number in range(STUBS):
            numbers = (STUB_GROUPS, share, number, STUBS, links, window)
            stubs.append(stack.enter_context(Client(["stub.py", ports, *map(str, numbers)])))
        for stub in stubs:
            stub.expect("ready", 60)
        processes = [node.process for node in nodes]
        before = cpu_seconds(processes)
        for stub in stubs:
            stub.process.send_signal(signal.SIGUSR1)
        time.sleep(settings.seconds)
        for stub in stubs:
            stub.finish()
        found: Counter[str] = Counter()
        for stub in stubs:
            found.update(stub.result(10))
        return found, cpu_seconds(processes) - before


SECTIONS: Mapping[str, Callable[[Settings], list[Row]]] = {
    "group": group,
    "routed": routed,
    "received": received,
    "rooms": peer_rooms,
    "latency-group": latency,
    "membership": membership,
    "reload-group": reload_group,
    "kill-broker": kill_broker,
    "redis-cluster": redis_cluster,
}
