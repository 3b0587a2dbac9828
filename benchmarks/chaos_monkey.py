"""The hand that breaks things: each of its deeds is drawn at random, and those that last are undone
later."""

import contextlib
import os
import random
import resource
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable

import psutil
from chaos_site import DESCRIPTORS, GOOD, SETTINGS, Site, send

from gworker.errors import GworkerError

BROKEN = {
    "syntax error": GOOD + "\ndef broken(:\n",
    "raises at import": GOOD + "\nraise RuntimeError('a broken deploy')\n",
    "hangs at import": "import time\ntime.sleep(1000)\n" + GOOD,
    "exits 3 at import": "import os\nos._exit(3)\n" + GOOD,
    "sys.exit at import": "import sys\nsys.exit(3)\n" + GOOD,
    "raises in on_worker_start": GOOD
    + "\n@http.on_worker_start\ndef fail(worker):\n    raise OSError('no database')\n",
    "other counts": GOOD.replace("COUNTS.get(name, 1))", "COUNTS.get(name, 1)) + 1"),
    "no ticker any more": GOOD.replace(", ticker]", "]"),
}
BAD_SETTINGS = (
    "not TOML [",
    "no-such-setting = 1\n",
    'graceful-timeout = "soon"\n',
    "workers = -1\n",
    'log-level = "debug"\n',
)
TO_A_WORKER = (
    "SIGHUP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGUSR1",
    "SIGUSR2",
    "SIGINT",
    "SIGQUIT",
    "SIGPIPE",
    "SIGCHLD",
)
MOST_PROCESSES = 24
HOGS, CONTROL_HOGS = 500, 300


def close_all(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.close()


class Monkey:
    """`act()` does one thing; `tidy()` undoes what is due, `calm()` all of it."""

    def __init__(self, site: Site, seed: int, spare: float) -> None:
        self.site = site
        self.random = random.Random(seed)
        self.deeds: Counter[str] = Counter()
        self.spare = spare
        """Seconds that a lasting deed may last at most."""
        self._undo: list[tuple[float, str, Callable[[], None]]] = []
        self._began = time.monotonic()
        self._weights: dict[Callable[[], None], int] = {
            self.kill: 6,
            self.stop_worker: 3,
            self.stray_signal: 6,
            self.terminate_worker: 3,
            self.hang_up: 4,
            self.more_or_fewer: 4,
            self.reopen: 2,
            self.upgrade: 5,
            self.stop_arbiter: 2,
            self.break_code: 4,
            self.break_settings: 2,
            self.fill_disk: 2,
            self.hog_descriptors: 2,
            self.hog_control: 2,
            self.refuse_forks: 3,
            self.refuse_descriptors: 3,
            self.command: 6,
            self.scale: 3,
            self.deaf_command: 3,
        }

    def act(self) -> None:
        (deed,) = self.random.choices(list(self._weights), list(self._weights.values()))
        with contextlib.suppress(psutil.NoSuchProcess, GworkerError, OSError):
            deed()

    def tidy(self, everything: bool = False) -> None:
        now = time.monotonic()
        due = [each for each in self._undo if everything or each[0] <= now]
        self._undo = [each for each in self._undo if each not in due]
        for _, what, undo in due:
            self.note(f"undo: {what}")
            with contextlib.suppress(psutil.NoSuchProcess):
                undo()

    def calm(self) -> None:
        """Undo everything and mend what is broken."""
        self.tidy(everything=True)
        self.site.deploy(GOOD)
        self.site.settings(SETTINGS)

    def note(self, what: str) -> None:
        print(f"  {time.monotonic() - self._began:6.1f} {what}", flush=True)

    def _did(self, kind: str, detail: str = "") -> None:
        self.deeds[kind] += 1
        self.note(f"{kind} {detail}".rstrip())

    def _later(self, what: str, undo: Callable[[], None], most: float) -> None:
        due = time.monotonic() + self.random.uniform(0.3, min(most, self.spare))
        self._undo.append((due, what, undo))

    def _is_done(self, what: str) -> bool:
        """True if that lasts already."""
        return any(each[1] == what for each in self._undo)

    def _any_child(self) -> psutil.Process:
        children = self.site.children()
        if not children:
            raise psutil.NoSuchProcess(0)
        return self.random.choice(children)

    # ---- signals

    def kill(self) -> None:
        for _ in range(self.random.choice((1, 1, 1, 2, 4))):
            child = self._any_child()
            self._did("SIGKILL to a child", f"{child.pid}")
            send(child, signal.SIGKILL)

    def stop_worker(self) -> None:
        child = self._any_child()
        self._did("SIGSTOP to a child", str(child.pid))
        send(child, signal.SIGSTOP)
        if self.random.random() < 0.5:  # or never: --timeout has to find it
            self._later(f"SIGCONT to {child.pid}", lambda: send(child, signal.SIGCONT), 3.0)

    def stray_signal(self) -> None:
        child, name = self._any_child(), self.random.choice(TO_A_WORKER)
        self._did("a stray signal to a child", f"{name} {child.pid}")
        send(child, signal.Signals[name])

    def terminate_worker(self) -> None:
        child = self._any_child()
        self._did("SIGTERM to a child", str(child.pid))
        send(child, signal.SIGTERM)

    def hang_up(self) -> None:
        times = self.random.choice((1, 1, 2, 20))
        self._did("SIGHUP to the arbiter", f"× {times}")
        for _ in range(times):
            send(self.site.arbiter, signal.SIGHUP)

    def more_or_fewer(self) -> None:
        crowded = len(self.site.children()) > MOST_PROCESSES
        name = "SIGTTOU" if crowded else self.random.choice(("SIGTTIN", "SIGTTOU"))
        self._did("SIGTTIN or SIGTTOU to the arbiter", name)
        send(self.site.arbiter, signal.Signals[name])

    def reopen(self) -> None:
        self._did("SIGUSR1 to the arbiter")
        send(self.site.arbiter, signal.SIGUSR1)

    def upgrade(self) -> None:
        self._did("SIGUSR2 to the arbiter")
        send(self.site.arbiter, signal.SIGUSR2)

    def stop_arbiter(self) -> None:
        if self._is_done("SIGCONT to the arbiter"):
            return
        self._did("SIGSTOP to the arbiter")
        arbiter = self.site.arbiter
        send(arbiter, signal.SIGSTOP)
        self._later("SIGCONT to the arbiter", lambda: send(arbiter, signal.SIGCONT), 4.0)

    # ---- deploys

    def break_code(self) -> None:
        if self._is_done("mend the code"):
            return
        name = self.random.choice(list(BROKEN))
        self._did("broken deploy", name)
        self.site.deploy(BROKEN[name])
        send(self.site.arbiter, signal.SIGHUP)
        self._later("mend the code", lambda: self._redeploy(lambda: self.site.deploy(GOOD)), 8.0)

    def break_settings(self) -> None:
        if self._is_done("mend the settings"):
            return
        self._did("broken settings")
        self.site.settings(self.random.choice(BAD_SETTINGS))
        send(self.site.arbiter, signal.SIGHUP)
        self._later(
            "mend the settings", lambda: self._redeploy(lambda: self.site.settings(SETTINGS)), 5.0
        )

    def _redeploy(self, deploy: Callable[[], None]) -> None:
        deploy()
        send(self.site.arbiter, signal.SIGHUP)

    # ---- what the system refuses

    def fill_disk(self) -> None:
        if self._is_done("empty the disk"):
            return
        self._did("full disk")
        if self.site.mounted:
            filler = self.site.logs / "filler"
            with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(65536))
            self._later("empty the disk", lambda: filler.unlink(missing_ok=True), 5.0)
            return
        self._swap_log("/dev/full")
        self._later("empty the disk", self._unswap_log, 5.0)

    def _swap_log(self, target: str) -> None:
        log = self.site.log
        log.rename(log.with_suffix(".kept"))
        log.symlink_to(target)
        send(self.site.arbiter, signal.SIGUSR1)

    def _unswap_log(self) -> None:
        self.site.log.unlink(missing_ok=True)
        self.site.log.with_suffix(".kept").rename(self.site.log)
        send(self.site.arbiter, signal.SIGUSR1)

    def hog_descriptors(self) -> None:
        """More idle connections than a process may have descriptors."""
        name = self.random.choice(self.site.served)
        self._did("idle connections", f"{HOGS} to {name}")
        address = self.site.addresses[name]
        self._hold(f"close {name}", [address] * HOGS, 4.0)

    def hog_control(self) -> None:
        """More connections to the control socket than the arbiter may have descriptors."""
        self._did("connections to the control socket", str(CONTROL_HOGS))
        (path,) = self.site.runtime.glob("*.sock")
        self._hold("close control", [str(path)] * CONTROL_HOGS, 4.0)

    def _hold(self, what: str, addresses: list[str], most: float) -> None:
        held = []
        for address in addresses:
            connection = socket.socket(
                socket.AF_UNIX if address.startswith("/") else socket.AF_INET
            )
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.connect(
                    address if address.startswith("/") else ("127.0.0.1", int(address))
                )
            held.append(connection)
        self._later(what, lambda: close_all(held), most)

    def refuse_forks(self) -> None:
        if self._is_done("allow forks"):
            return
        self._did("forks refused")
        before, _ = resource.getrlimit(resource.RLIMIT_NPROC)  # the arbiter has inherited it
        self.site.limit("nproc", 1)
        self._later("allow forks", lambda: self.site.limit("nproc", before), 4.0)

    def refuse_descriptors(self) -> None:
        """The arbiter gets no descriptor more than it has, or a few."""
        if self._is_done("allow descriptors"):
            return
        room = self.random.choice((0, 0, 1, 2, 4))
        self._did("descriptors refused", f"but {room}")
        self.site.limit("nofile", max(map(int, os.listdir(f"/proc/{self.site.pid}/fd"))) + 1 + room)
        self._later("allow descriptors", lambda: self.site.limit("nofile", DESCRIPTORS), 4.0)

    # ---- commands

    def command(self) -> None:
        name = self.random.choice(
            ("status", "connections", "settings", "who", "reload", "upgrade", "nonsense")
        )
        self._did("command", name)
        waits = name in ("reload", "upgrade")
        self.site.ask(name, timeout=0.5 if waits else 3.0)

    def scale(self) -> None:
        name = self.random.choice(list(self.site.counts))
        count = self.random.randint(1, 3)
        self._did("scale", f"{name} {count}")
        self.site.ask("scale", timeout=0.5, worker=name, count=count)

    def deaf_command(self) -> None:
        """A client that asks and never reads, or says half of what it wants."""
        self._did("a deaf client")
        request = self.random.choice(
            (b'{"command": "status"}\n' * 200, b'{"command": "rel', os.urandom(200) + b"\n")
        )
        (path,) = self.site.runtime.glob("*.sock")
        held = []
        for _ in range(20):
            connection = socket.socket(socket.AF_UNIX)
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.connect(str(path))
                connection.send(request)
            held.append(connection)
        self._later("deaf clients leave", lambda: close_all(held), 6.0)
