"""gworker commands without the half second in which a new interpreter imports what they need.

A template process imports it once and forks for each command. The fork becomes what exec would have
made of it (arguments, environment, directory, descriptors) and runs `gworker.cli.main.main`.
Whatever is about the start of an interpreter is tested where a command is run by subprocess."""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from setproctitle import getproctitle

IMPORTED = (
    "gworker.__main__",
    "gworker.cli.main",
    "gworker.cli.serve",
    "gworker.master.upgrade",
    "gworker.cli.check",
    "rich.table",
)

MOST = 1 << 18
"""Bytes of a request."""


class Command:
    """A command that was started, with what is used of a `subprocess.Popen`. `stderr`: a descriptor
    for it."""

    def __init__(self, arguments: list[str], directory: Path, stderr: int | None = None) -> None:
        self.args = arguments
        self.returncode: int | None = None
        self._outputs = [tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")]  # noqa: SIM115
        request = json.dumps(
            {"arguments": arguments, "directory": str(directory), "environment": dict(os.environ)}
        )
        with open(os.devnull) as nothing:
            descriptors = [nothing.fileno(), *(each.fileno() for each in self._outputs)]
            if stderr is not None:
                descriptors[2] = stderr
            self._end = _template().request(request.encode(), descriptors)
        self.pid = int(self._end.recv(100))

    def poll(self) -> int | None:
        """The exit code, as Popen shows it; None: it still runs."""
        if self.returncode is None:
            self._end.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                self._hear()
        return self.returncode

    def _hear(self) -> None:
        self.returncode = int(self._end.recv(100))
        self._end.close()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self._end.settimeout(timeout)
            try:
                self._hear()
            except TimeoutError:
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; what it has written to its standard output and error."""
        self.wait(timeout)
        texts = []
        for each in self._outputs:
            if not each.closed:
                each.seek(0)
            texts.append("" if each.closed else each.read())
            each.close()
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # reaped, and not told yet
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class Template:
    """The process that forks, as its user sees it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        atexit.register(self.close)

    def request(self, data: bytes, descriptors: list[int]) -> socket.socket:
        """Have a command started. Returns where its pid comes, and then its exit code."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._socket, [data], [*descriptors, theirs.fileno()])
        return ours

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.wait()


_templates: list[Template] = []


def _template() -> Template:
    if not _templates:
        _templates.append(Template())
    return _templates[0]


# ---- in the template process


def _serve(requests: socket.socket) -> None:
    for module in IMPORTED:
        import_module(module)
    for module in sys.modules["gworker.cli.serve"].PRELOADED:
        import_module(module)
    # it finds the room for titles by the environment, which is another one in a fork
    getproctitle()
    gc.collect()
    gc.freeze()
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is requests:
                data, descriptors, _, _ = socket.recv_fds(requests, MOST, 4)
                if not data:
                    return
                _start(selector, json.loads(data), descriptors)
            else:
                selector.unregister(key.fileobj)
                os.close(key.fd)
                pid, end = key.data
                _, status = os.waitpid(pid, 0)
                with end, contextlib.suppress(OSError):  # nothing waits for it
                    end.send(str(os.waitstatus_to_exitcode(status)).encode())


def _start(
    selector: selectors.BaseSelector, request: dict[str, Any], descriptors: list[int]
) -> None:
    pid = os.fork()
    if pid == 0:
        _become(request, descriptors)
    end = socket.socket(fileno=descriptors.pop())
    for each in descriptors:
        os.close(each)
    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, end))
    end.send(str(pid).encode())


def _become(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """What execve(2) would have made of this process."""
    code = 1
    try:
        for number, each in enumerate(descriptors[:3]):
            os.dup2(each, number)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.chdir(request["directory"])
        os.environ.clear()
        os.environ.update(request["environment"])
        time.tzset()
        main = sys.modules["gworker.__main__"].__file__
        sys.argv = [str(main), *request["arguments"]]
        sys.orig_argv = [sys.executable, "-m", "gworker", *request["arguments"]]
        sys.path[0] = request["directory"]  # as with -m; it was that of this file
        try:
            code = sys.modules["gworker.cli.main"].main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
