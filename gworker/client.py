"""The commands' half of the control socket: one request, then replies one by one, with descriptors.

`call` yields each reply until the one with "exit", which it yields too. Raises NotRunning if nobody listens,
`Gone` if the arbiter closes before that last reply, `ControlError` for a deadline that passes or an answer
that makes no sense. The wire format is described in control.py.
"""

from __future__ import annotations

import array
import json
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

from gworker.errors import GworkerError
from gworker.instances import Instance, NotRunning
from gworker.runtime import peer, unix_address

CONNECT_TIMEOUT = 5.0  # seconds; an arbiter that takes longer than a turn to accept is in trouble
MAX_FDS = 253  # SCM_MAX_FD: as many as the kernel puts in one message


class ControlError(GworkerError):
    """The arbiter did not answer as it should."""


class Gone(ControlError):
    """The arbiter closed the connection before its answer was complete."""


class Reply(dict[str, Any]):
    """One JSON object; `fds` are the descriptors that came with it, now owned by whoever holds the reply."""

    fds: list[int]

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


class Connection:
    """A connected control socket, for one call."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""
        self._fds: list[int] = []
        self._deadline: float | None = None

    def call(self, command: str, timeout: float | None = None, **arguments: Any) -> Iterator[Reply]:
        """Send a request, yield its replies. `timeout`: seconds for all of it; None: as long as it takes."""
        self.set_timeout(timeout)
        request = json.dumps({"command": command, **arguments}).encode() + b"\n"
        self._arm()
        try:
            self._sock.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have said why before it closed: read that
        except TimeoutError:
            raise ControlError("the arbiter does not take the request") from None
        while True:
            reply = self._next()
            yield reply
            if "exit" in reply:
                return

    def _next(self) -> Reply:
        while b"\n" not in self._buffer:
            self._arm()
            self._buffer += self._receive()
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            reply = Reply(json.loads(line))
            count = reply.pop("fds", 0)
            reply.fds, self._fds = self._fds[:count], self._fds[count:]
        except (ValueError, TypeError):
            raise ControlError(f"the arbiter's answer makes no sense: {line[:200]!r}") from None
        return reply

    def set_timeout(self, timeout: float | None) -> None:
        """From now on, what remains of the call may take so many seconds."""
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def _arm(self) -> None:
        remaining = None if self._deadline is None else self._deadline - time.monotonic()
        if remaining is not None and remaining <= 0:
            raise ControlError("the arbiter does not answer")
        self._sock.settimeout(remaining)

    def _receive(self) -> bytes:
        try:
            data, fds = _recv_fds(self._sock)
        except TimeoutError:
            raise ControlError("the arbiter does not answer") from None
        except ConnectionResetError:
            data, fds = b"", []
        self._fds += fds
        if not data:
            raise Gone("the arbiter closed the connection")
        return data

    def close(self) -> None:
        self._sock.close()
        while self._fds:
            os.close(self._fds.pop())

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _recv_fds(sock: socket.socket) -> tuple[bytes, list[int]]:
    """Bytes and descriptors, close-on-exec. (socket.recv_fds takes flags but does not pass them on.)"""
    fds = array.array("i")
    room = socket.CMSG_SPACE(MAX_FDS * fds.itemsize)
    data, ancillary, _, _ = sock.recvmsg(65536, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return data, fds.tolist()


def connect(instance: Instance) -> Connection:
    """Connect to the control socket of an instance. Raises NotRunning or ControlError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(CONNECT_TIMEOUT)
    try:
        with unix_address(instance.socket) as address:
            sock.connect(address)
        _check_peer(sock)
    except TimeoutError:
        sock.close()
        raise ControlError(f"{instance.label} (pid {instance.pid}) does not answer") from None
    except PermissionError:
        sock.close()
        raise ControlError(f"{instance.label} (pid {instance.pid}) belongs to another user") from None
    except OSError as error:
        sock.close()
        raise NotRunning(f"{instance.label} has no control socket: {error.strerror}") from None
    except BaseException:
        sock.close()
        raise
    return Connection(sock)


def _check_peer(sock: socket.socket) -> None:
    """The socket may lie under /tmp: what another user put there gets no command from us."""
    _, uid, _ = peer(sock)
    if uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        raise ControlError(f"the control socket belongs to uid {uid}")
