"""What becomes of connections when their process retires, without any option: which move, which are
told, and how soon."""

from __future__ import annotations

import http.client
import re
import select
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import places
import pytest
from instance import DEADLINE, Instance, wait_for
from pki import Pki
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

APP = places.APPS / "retirement.py"

pytestmark = pytest.mark.timeout(180)

Make = Callable[[str], Instance]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    made: list[Instance] = []
    directory = tmp_path_factory.mktemp("retirement")
    Pki(directory).issue("site", "127.0.0.1")

    def start(only: str) -> Instance:
        """An instance of the Workers with these names."""
        made.append(Instance(directory / str(len(made)), ""))
        made[-1].start("--env", f"TLS={directory}", "--env", f"ONLY={only}", target=str(APP))
        return made[-1]

    yield start
    for each in made:
        each.kill()


@pytest.fixture(scope="module")
def web(make: Make) -> Instance:
    return make("web,web-false,http,https")


@pytest.fixture(scope="module")
def app(make: Make) -> Instance:
    return make("numbers,ws,tcp,text,tls")


def reload(one: Instance) -> list[str]:
    """Its steps."""
    *steps, end = one.ask_arbiter("reload")
    assert end["exit"] == 0
    return [step["step"] for step in steps]


def over_tls(plain: socket.socket) -> socket.socket:
    return ssl._create_unverified_context().wrap_socket(plain)


class Browser:
    """An HTTP client that keeps its connection, and counts how often it has had to open one."""

    def __init__(self, one: Instance, name: str) -> None:
        kind = http.client.HTTPConnection
        port, context = one.port(name), ssl._create_unverified_context()
        if name == "https":
            self.client: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", port, context=context
            )
        else:
            self.client = kind("127.0.0.1", port)
        self.client.timeout = DEADLINE
        self.opened = 0

    def post(self, body: str) -> tuple[int, str | None]:
        """Ask once, and never again; the pid that has answered, and the Connection of the
        answer."""
        if self.client.sock is None:
            self.client.connect()
            self.opened += 1
        self.client.request("POST", "/", body)
        answer = self.client.getresponse()
        said, pid = answer.read().decode().split()
        assert said == body
        return int(pid), answer.headers["Connection"]


# ---- HTTP


CLIENTS = {"web": 20, "web-false": 5, "http": 5, "https": 5}


def test_no_request_is_lost_on_connections_that_are_kept(web: Instance) -> None:
    """Clients that POST every 10 ms: their connections move, or the answer says that it is the
    last."""
    stopping = threading.Event()
    faults: list[str] = []
    opened: dict[str, list[int]] = {name: [] for name in CLIENTS}
    pids: dict[str, set[int]] = {name: set() for name in CLIENTS}

    def use(name: str, number: int) -> None:
        browser, asked = Browser(web, name), 0
        try:
            while not stopping.wait(0.01):
                pid, connection = browser.post(f"{number}-{asked}")
                asked += 1
                pids[name].add(pid)
                if connection == "close":
                    browser.client.close()
            opened[name].append(browser.opened)
        except (OSError, http.client.HTTPException, AssertionError) as error:
            faults.append(f"{name}: {asked} requests, then {error!r}")
        finally:
            browser.client.close()

    users = [
        threading.Thread(target=use, args=(name, number))
        for name in CLIENTS
        for number in range(CLIENTS[name])
    ]
    for user in users:
        user.start()
    try:
        ends = [reload(web)[-1] for _ in range(3)]
    finally:
        stopping.set()
        for user in users:
            user.join(DEADLINE)
    assert faults == []
    assert (len(pids["web"]), len(pids["web-false"])) == (4, 4), "each generation has answered"
    assert opened["web"] == [1] * 20
    assert opened["web-false"] == [1] * 5
    assert min(opened["http"] + opened["https"]) >= 2
    assert all(
        re.search("; 2[0-5] connections were handed over, \\d+ closed$", end) for end in ends
    ), ends


@pytest.mark.parametrize("name", ["http", "https"])
def test_http_that_cannot_move_is_told_in_its_next_answer(web: Instance, name: str) -> None:
    browser = Browser(web, name)
    before, connection = browser.post("one")
    assert connection is None
    reload(web)
    time.sleep(1)  # at a stop it would be closed by now
    assert browser.post("two") == (before, "close")
    assert browser.client.sock is None
    after, connection = browser.post("three")
    assert after != before
    assert (connection, browser.opened) == (None, 2)
    browser.client.close()


def test_http_that_is_silent_is_closed_after_five_seconds(web: Instance) -> None:
    with (
        web.connect("http") as fresh,
        web.connect("http") as asked,
        over_tls(web.connect("https")) as secure,
    ):
        for each in (asked, secure):
            each.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
            assert each.recv(1000).startswith(b"HTTP/1.1 200")
        started = time.monotonic()
        reload(web)
        for each in (fresh, asked, secure):
            assert each.recv(1000) == b""
        assert 4.9 < time.monotonic() - started < 15


# ---- what a reload says


def websockets(one: Instance, number: int, stack: ExitStack) -> list[ClientConnection]:
    url = f"ws://127.0.0.1:{one.port('ws')}/"
    return [stack.enter_context(connect(url, open_timeout=DEADLINE)) for _ in range(number)]


def test_what_is_closed_is_told_before_and_counted_to_the_end(app: Instance) -> None:
    with ExitStack() as stack:
        clients = websockets(app, 60, stack)
        lines = [stack.enter_context(app.connect("text")) for _ in range(3)]
        one = stack.enter_context(app.connect("tcp"))
        steps = reload(app)
        told = [step for step in steps if " cannot move: " in step]
        assert told == [
            "63 connections cannot move: on_close without on_takeover (text, ws)",
            "1 connection cannot move: handover=False (tcp)",
        ]
        assert steps.index(told[0]) < min(
            steps.index(step) for step in steps if " is ready (pid " in step
        )
        assert steps[-1].endswith("; 0 connections were handed over, 64 closed"), (
            "told when it is known, not when it is done"
        )
        assert app.status()["last_reload"]["closed"] == 64
        codes = Counter[int | None]()
        for client in clients:
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(DEADLINE)
            codes[closed.value.rcvd.code if closed.value.rcvd else None] += 1
        assert codes == {1012: 60}
        for each in (*lines, one):
            assert each.recv(100) == b""
        wait_for(
            lambda: all(row["state"] == "ready" for row in app.workers()),
            "the old processes have left",
        )
        assert app.status()["last_reload"]["closed"] == 64


def test_who_leaves_by_himself_is_not_counted_as_closed(app: Instance) -> None:
    with over_tls(app.connect("tls")) as stays, app.connect("tls") as plain:
        stays.sendall(b"x\n")
        assert stays.recv(100) == b"x\n"
        steps = reload(app)
        assert "1 connection cannot move: TLS (tls)" in steps
        assert steps[-1].endswith(", 1 closed"), plain
        assert stays.recv(100) == b""


# ---- what is sent while it moves


def test_what_is_sent_while_it_moves_arrives_once_and_in_order(app: Instance) -> None:
    """From greenlets that know nothing of the reload: True means that it arrives, and nothing is
    called closed."""
    with ExitStack() as stack:
        clients = [stack.enter_context(app.connect("numbers")) for _ in range(30)]
        for client in clients:
            client.sendall(b"go\n")
        stack.enter_context(app.connect("numbers")).sendall(
            b"hold\n"
        )  # so that all those greenlets see their end
        reload(app)
        refused = app.directory / "refused"
        wait_for(
            lambda: refused.exists() and len(refused.read_text().split()) == 30, "all have moved"
        )
        sent = sorted(map(int, refused.read_text().split()))
        received = []
        for client in clients:
            data = b""
            while select.select([client], [], [], 0.2)[0]:
                data += client.recv(1 << 20)
            numbers = [int(line.split()[1]) for line in data.decode().splitlines()]
            assert numbers == list(range(len(numbers)))
            received.append(len(numbers))
        assert sorted(received) == sent
        assert not (app.directory / "errors").exists(), "none of them is called closed before it is"


# ---- a stop: the last tests, each with an instance of its own


def stop(one: Instance) -> float:
    """Seconds that it takes."""
    started = time.monotonic()
    done = one.run("stop")
    assert done.returncode == 0, done.stderr
    return time.monotonic() - started


def test_idle_clients_do_not_hold_up_a_stop(make: Make) -> None:
    one = make("tcp,text,frame,tls,handler")
    with ExitStack() as stack:
        idle = [
            stack.enter_context(one.connect(name))
            for name in ("tcp", "text", "frame", "handler")
            for _ in range(20)
        ]
        for spoken in idle[::2]:
            spoken.sendall(b"\0\0\0\5\n")
            assert spoken.recv(100) == b"\0\0\0\5\n"
        secure = over_tls(stack.enter_context(one.connect("tls")))
        stack.enter_context(secure)
        for each in (*idle, secure):  # a socket lingers as long as its last bytes may be on the way
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        assert stop(one) < 2, (
            "it took 4 s: two for those that might speak, two for those that do not close"
        )
        assert all(each.recv(100) == b"" for each in (*idle, secure)), (
            "closed, and none of them with a reset"
        )


def test_silent_http_and_handshakes_have_a_second_at_a_stop(make: Make) -> None:
    one = make("web,http,https,ws,legacy")
    with ExitStack() as stack:
        silent = [
            stack.enter_context(one.connect(name))
            for name in ("web", "http", "https", "ws", "legacy")
        ]
        legacy = stack.enter_context(one.connect("legacy"))
        legacy.sendall(b"line\n")
        assert legacy.recv(100) == b"line\n"
        browser = Browser(one, "web")
        browser.post("one")
        asking = threading.Timer(0.5, lambda: answers.append(browser.post("two")[1]))
        answers: list[str | None] = []
        asking.start()
        assert 1 <= stop(one) < 4
        asking.join()
        assert answers == ["close"]
        assert all(each.recv(100) == b"" for each in (*silent, legacy))
        browser.client.close()
    assert not re.search("did not finish|ERROR", one.read_log())


# ---- callbacks


def test_on_worker_reload_is_not_cut_off(tmp_path: Path) -> None:
    one = Instance(tmp_path / "app", places.app("slow_to_reload"))
    try:
        one.start()
        assert one.reload() == {"exit": 0}
        notes = one.directory / "notes"
        wait_for(lambda: notes.exists() and "stopped" in notes.read_text(), "the end of the old")
        assert notes.read_text().split() == ["begins", "ends", "stopped"]
    finally:
        one.kill()
