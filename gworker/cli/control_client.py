"""The commands' half of the control socket: one request, then replies one by one, with descriptors.

`call` yields each reply until the one with "exit", which it yields too. Raises NotRunning if none
listens, `Gone` if the arbiter closes before that last reply, `Silent` if nothing comes from it for
too long, `ControlError` for an answer that makes no sense. The wire format is described in
control.py.

How long an answer takes is for the arbiter to say: it has a deadline for everything that it does,
and sends `PULSE` meanwhile to show that it is alive. So a command gives up on silence
alone.
"""

from __future__ import annotations

import json
import math
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

from gworker.cli.instances import Instance, NotRunning
from gworker.errors import GworkerError
from gworker.ipc import fd_socket
from gworker.master.control_server import PULSE
from gworker.system.peer_address import UNKNOWN, credentials_of
from gworker.system.unix_socket import address_of

SILENCE = 15.0  # seconds without a word from the arbiter after which a command gives up


class ControlError(GworkerError):
    """The arbiter did not answer as it should."""


class Silent(ControlError):
    """The arbiter has not sent anything for too long."""

    def __init__(self, instance: Instance, seconds: float) -> None:
        # psutil takes longer to import than most commands do.
        from gworker.master.watchdog import condition

        what = condition(instance.pid)
        super().__init__(f"{instance} does not answer: nothing for {seconds:g} s; {what}")


class Overdue(ControlError):
    """The arbiter has spoken, but it was not done at `Connection.end`."""


class Gone(ControlError):
    """The arbiter closed the connection before its answer was complete."""


class Reply(dict[str, Any]):
    """One JSON object. fds: the descriptors that came with it, owned by the holder of the reply."""

    fds: list[int]


class Connection:
    """A connected control socket, for one call."""

    def __init__(self, sock: socket.socket, instance: Instance, silence: float) -> None:
        self._sock = sock
        self._instance = instance
        self._silence = silence
        self._buffer = b""
        self._fds: list[int] = []
        self.end = math.inf  # when (monotonic) the call is given up, whatever comes

    def call(self, command: str, **arguments: Any) -> Iterator[Reply]:
        """Send a request, yield its replies."""
        request = json.dumps({"command": command, **arguments}).encode() + b"\n"
        self._sock.settimeout(self._silence)
        try:
            self._sock.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have sent the reason before it closed: read that
        except TimeoutError:
            raise Silent(self._instance, self._silence) from None
        reply = Reply()
        while "exit" not in reply:
            reply = self._next()
            if reply != PULSE:
                yield reply

    def _next(self) -> Reply:
        while b"\n" not in self._buffer:
            left = self.end - time.monotonic()
            if left <= 0:
                raise Overdue(f"{self._instance} is not done in time")
            self._sock.settimeout(min(self._silence, left))
            try:
                data, fds = fd_socket.receive(self._sock, 65536)
            except TimeoutError:
                if left > self._silence:
                    raise Silent(self._instance, self._silence) from None
                continue
            except ConnectionResetError:
                data, fds = b"", []
            self._fds += fds
            if not data:
                raise Gone("the arbiter closed the connection")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            reply = Reply(json.loads(line))
            count = reply.pop("fds", 0)
            reply.fds, self._fds = self._fds[:count], self._fds[count:]
        except (ValueError, TypeError):
            raise ControlError(f"the arbiter's answer makes no sense: {line[:200]!r}") from None
        return reply

    def close(self) -> None:
        self._sock.close()
        while self._fds:
            os.close(self._fds.pop())


def connect(instance: Instance, timeout: float | None = None) -> Connection:
    """Connect to an instance's control socket. `timeout`: seconds of silence, now and in the call;
    None: SILENCE. Raises NotRunning or ControlError."""
    if not instance.socket:
        raise NotRunning(
            f"{instance} has no control socket: one that was removed is made anew within a minute, "
            "and signals work meanwhile"
        )
    silence = SILENCE if timeout is None else timeout
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # How long connect(2) waits for room in the queue of a listener that nothing serves (unix(7)).
    # With a timeout of Python's the socket would be non-blocking, and connect(2) would not wait.
    interval = struct.pack("@ll", int(silence), int(silence % 1 * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)
    with ExitStack() as on_failure:
        on_failure.callback(sock.close)
        try:
            with address_of(instance.socket) as address:
                sock.connect(address)
            peer = credentials_of(sock) or UNKNOWN
        except BlockingIOError:
            raise Silent(instance, silence) from None
        except PermissionError:
            raise ControlError(f"{instance} belongs to another user") from None
        except OSError as error:
            raise NotRunning(f"{instance.label} has no control socket: {error.strerror}") from None
        # One that another program has put in the place of the arbiter's gets no command.
        if peer.uid not in (os.geteuid(), 0) or peer.pid != instance.pid:
            raise ControlError(
                f"the control socket of {instance.label} is another program's (pid {peer.pid}, uid "
                f"{peer.uid})"
            )
        on_failure.pop_all()
    return Connection(sock, instance, silence)


def ask(instance: Instance, command: str, timeout: float | None = None) -> Reply:
    """The reply to `command` in which something stands under that name. Raises as `connect` and
    `call` do.

    timeout: see `connect`.
    """
    with closing(connect(instance, timeout)) as connection:
        replies = list(connection.call(command))
    for reply in replies:
        if command in reply:
            return reply
    raise ControlError(str(replies[-1].get("error", f"the arbiter has no answer to {command!r}")))
