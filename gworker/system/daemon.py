"""Going into the background without hiding failures, and what a starting server says to who started
it.

A `Launch` is told once how the start went. In the foreground that is a log line, or a message on
stderr. With --daemon the starting command waits on a pipe: it prints the word that comes and exits
0 or 1 with it, and a pipe that closes without a word means that the arbiter died.

Every process that the arbiter forks calls `close_in_child`, or the starting command could wait for
a worker.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any, Protocol

from gworker.errors import ConfigError

log = logging.getLogger("gworker")

MAX_MESSAGE = 8192
"""Characters of a message. Each makes 6 bytes at most and a pipe holds 65536 (pipe(7)), so that a
word never blocks the arbiter, not even when the starting command is stopped."""

OUTPUT_MODE = 0o640


class Launch(Protocol):
    """Who waits for the start to end. After the first word the others are ignored."""

    def ready(self, message: str) -> None:
        """Every worker process is ready."""

    def failed(self, message: str) -> None:
        """The start failed; `message` is what the user gets to read, traceback included."""

    def close_in_child(self) -> None:
        """Forget about it in a forked process."""


class ForegroundLaunch:
    """The server runs in the starting command itself."""

    def ready(self, message: str) -> None:
        log.info("%s", message)

    def failed(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    def close_in_child(self) -> None:
        pass


class DaemonLaunch:
    """The server runs in the background; the starting command reads the other end of `fd`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._say("pid", os.getpid())

    def ready(self, message: str) -> None:
        log.info("%s", message)
        self._say("ready", message[:MAX_MESSAGE])
        self.close_in_child()

    def failed(self, message: str) -> None:
        # The end of a traceback is the part that tells.
        self._say("failed", message[-MAX_MESSAGE:])
        self.close_in_child()

    def close_in_child(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _say(self, key: str, value: object) -> None:
        if self._fd < 0:
            return
        with contextlib.suppress(
            BrokenPipeError
        ):  # the starting command was killed; the daemon lives on
            # backslashreplace: a file name that is no UTF-8 holds surrogates, which JSON writes the
            # same way.
            line = json.dumps({key: value}, ensure_ascii=False).encode(errors="backslashreplace")
            os.write(self._fd, line + b"\n")


def daemonize(stdout_file: str | None) -> DaemonLaunch:
    """Go on in a background process: own session, no terminal, no descriptor of the starting
    command.

    Returns in the daemon only. The starting command leaves by SystemExit: 0 ready, 1 failed, 130
    interrupted. Raises ConfigError, before anything is forked, if `stdout_file` cannot be written.
    """
    output = open_output(stdout_file)
    _flush()  # or both processes would print what is buffered
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child:
        os.close(writer)
        os.close(output)
        sys.exit(_await(reader, child))
    os.close(reader)
    os.setsid()
    if os.fork():
        os._exit(0)  # so that the daemon leads no session and cannot get a terminal back
    _detach(output)
    return DaemonLaunch(writer)


def open_output(stdout_file: str | None) -> int:
    """A descriptor that output is appended to; /dev/null for None. Raises ConfigError."""
    path = stdout_file or os.devnull
    try:
        return os.open(
            path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, OUTPUT_MODE
        )
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def redirect_output(output: int) -> None:
    """Make descriptor `output` this process's stdout and stderr, and close it."""
    _flush()
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)


def _detach(output: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)
    redirect_output(output)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a file would get it in blocks, and late
    _close_inherited()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _close_inherited() -> None:
    """Close what the caller's shell or test harness passed on: its pipes would never see an end.

    All that Python itself opened is close-on-exec, so what is inheritable came from outside.
    """
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            if int(name) > 2 and os.get_inheritable(int(name)):
                os.close(int(name))


def _await(reader: int, child: int) -> int:
    """The starting command: wait for the word, pass it on, return the exit code."""
    daemon = 0
    try:
        with contextlib.suppress(ChildProcessError):  # SIGCHLD may be ignored since before our time
            os.waitpid(child, 0)
        for word in _words(reader):
            daemon = word.get("pid", daemon)
            if "ready" in word:
                print(word["ready"], flush=True)
                return 0
            if "failed" in word:
                print(word["failed"], file=sys.stderr, flush=True)
                return 1
    except KeyboardInterrupt:
        return _interrupted(reader, daemon)
    print("gworker: error: the arbiter died before it was ready", file=sys.stderr, flush=True)
    return 1


def _interrupted(reader: int, daemon: int) -> int:
    """Ctrl-C: nobody would know of a daemon that comes up later, so it is told to stop."""
    if not daemon:
        # Its pid is the first thing that it says; without one it did not come to be.
        daemon = next((word["pid"] for word in _words(reader)), 0)
    if daemon:
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGTERM)
        print(
            f"gworker: interrupted, the daemon (pid {daemon}) is told to stop",
            file=sys.stderr,
            flush=True,
        )
    return 130


def _words(reader: int) -> Iterator[dict[str, Any]]:
    """The JSON lines from the daemon until its end of the pipe closes."""
    rest = b""
    while data := os.read(reader, 65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield json.loads(line)
