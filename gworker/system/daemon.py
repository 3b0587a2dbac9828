"""Going into the background without hiding failures, and the report to the starting command.

A `Launch` reports once how the start went. In the foreground that is a log line, or a message on
stderr. With --daemon the starting command waits on a pipe: it prints the report and exits 0 or 1; a
pipe that closes without a report means that the arbiter died.

Every process that the arbiter forks calls `close_in_child`, or the starting command could wait for
a worker process.
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

from gworker.errors import ConfigError

log = logging.getLogger("gworker")

# Characters of a message. Each makes 6 bytes at most and a pipe holds 65536 (pipe(7)), so a report
# never blocks the arbiter, not even when the starting command is stopped.
MAX_MESSAGE = 8192


class Launch:
    """Reports the end of the start. Only the first report counts.

    fd: in a daemon, the pipe to the starting command. Without it the server runs in that itself.
    """

    def __init__(self, fd: int | None = None) -> None:
        self._fd = fd
        self._is_daemon = fd is not None
        self._report("pid", str(os.getpid()))

    def ready(self, message: str) -> None:
        """Every worker process is ready."""
        log.info("%s", message)
        self._report("ready", message[:MAX_MESSAGE])
        self.close_in_child()

    def failed(self, message: str) -> None:
        """The start failed. message: for the user, with the traceback."""
        if not self._is_daemon:
            print(message, file=sys.stderr, flush=True)
        self._report("failed", message[-MAX_MESSAGE:])  # the end of a traceback says the most
        self.close_in_child()

    def close_in_child(self) -> None:
        """In a forked process: report nothing."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None

    def _report(self, key: str, value: str) -> None:
        if self._fd is None:
            return
        with contextlib.suppress(BrokenPipeError):  # the starting command was killed
            # backslashreplace: a file name that is no UTF-8 has surrogates, which JSON writes so.
            line = json.dumps({key: value}, ensure_ascii=False).encode(errors="backslashreplace")
            os.write(self._fd, line + b"\n")


def daemonize(stdout_file: str | None) -> Launch:
    """Go on in a background process: own session, no terminal, no descriptor of the starting
    command.

    Returns in the daemon only. The starting command leaves by SystemExit: 0 ready, 1 failed, 130
    interrupted. Raises ConfigError, before anything is forked, if `stdout_file` cannot be written.
    """
    output = open_output(stdout_file)
    _flush()  # or both processes would print the buffered output
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
    return Launch(writer)


def open_output(stdout_file: str | None) -> int:
    """A descriptor that output is appended to; /dev/null for None. Raises ConfigError."""
    path = stdout_file or os.devnull
    try:
        return os.open(
            path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o640
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
    # Close the descriptors of the caller's shell or supervisor, whose pipes would never end. All
    # that Python itself opened is close-on-exec, so what is inheritable came from outside.
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            if int(name) > 2 and os.get_inheritable(int(name)):
                os.close(int(name))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def _await(reader: int, child: int) -> int:
    # The starting command: wait for the report, print it, return the exit code.
    reports = _reports(reader)
    # Ctrl-C waits until the first report has come, the pid of the daemon: that could come up later
    # without a notice.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    with contextlib.suppress(ChildProcessError):  # SIGCHLD may have been ignored by the caller
        os.waitpid(child, 0)
    _, daemon = next(reports, ("", ""))
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        for key, message in reports:
            is_ready = key == "ready"
            print(message, file=sys.stdout if is_ready else sys.stderr, flush=True)
            return 0 if is_ready else 1
    except KeyboardInterrupt:
        if daemon:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(daemon), signal.SIGTERM)
            print(
                f"gworker: interrupted, the daemon (pid {daemon}) is told to stop",
                file=sys.stderr,
                flush=True,
            )
        return 130
    print("gworker: error: the arbiter died before it was ready", file=sys.stderr, flush=True)
    return 1


def _reports(reader: int) -> Iterator[tuple[str, str]]:
    # The reports from the daemon, as (kind, message), until its end of the pipe closes.
    rest = b""
    while data := os.read(reader, 65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield from json.loads(line).items()
