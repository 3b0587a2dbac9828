"""Reading certificates and keys for processes that gave up the privileges to read them.

    read_all()   in a process that is still root: what its Worker has declared, kept for later
    Reader       for the probe, which learns only as an unprivileged user which files there are
    pack()       in the arbiter at a reload, for processes that stay (`reloadable=False`), which
                 `unpack` it

What is read with more rights than the target has must look like a certificate or a key of TLS, or a
target could have any file read. No ssl here: the arbiter imports this.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import stat
from collections.abc import Iterable, Mapping

from gworker.errors import ConfigError

MAX_FILE = 1 << 20  # bytes

PEM = re.compile(
    rb"-----BEGIN ((TRUSTED )?CERTIFICATE|X509 CRL|((RSA|EC|ENCRYPTED) )?PRIVATE KEY)-----"
)

# The content of files, by path; or, as a string, why one could not be read.
Held = Mapping[str, bytes | str]

_waitpid = os.waitpid  # not gevent's, which waits in its event loop


def read(path: str, held: Held) -> bytes:
    """The content of the file at `path`. held: what was read with more rights. Raises
    ConfigError."""
    try:
        return _read(path)
    except OSError as error:
        is_denied = error.errno == errno.EACCES
        found = held.get(path, error.strerror) if is_denied else error.strerror
    if isinstance(found, bytes):
        return found
    raise ConfigError(f"{path}: {found}")


def _read(path: str) -> bytes:
    # Non-blocking: a named pipe must not hang the start.
    with open(path, "rb", opener=lambda path, mode: os.open(path, mode | os.O_NONBLOCK)) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if found.st_size > MAX_FILE:
            raise OSError(errno.EFBIG, "too large for a certificate or a key")
        return file.read()


def read_all(paths: Iterable[str]) -> dict[str, bytes | str]:
    """The content of each of `paths`, b"" if that is not PEM; or why it cannot be read."""
    found: dict[str, bytes | str] = {}
    for path in paths:
        try:
            data = _read(path)
        except OSError as error:
            found[path] = error.strerror or str(error)
        else:
            found[path] = data if PEM.search(data) else b""
    return found


def pack(paths: Iterable[str]) -> int:
    """A memory file with the result of `read_all`. Raises OSError."""
    descriptor = os.memfd_create("gworker-tls", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        pickle.dump(read_all(paths), file)
    return descriptor


def unpack(descriptor: int) -> dict[str, bytes | str]:
    """The content of a memory file of `pack`, which is closed."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        found: dict[str, bytes | str] = pickle.load(file)
    return found


class Reader:
    """A child that keeps the privileges that this process is about to give up. It answers once."""

    def __init__(self) -> None:
        question, self._ask = os.pipe()
        self._answer, answer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.close(self._ask)  # or the question would have no end
                _answer(question, answer)
            finally:
                os._exit(0)
        os.close(question)
        os.close(answer)

    def read_all(self, paths: Iterable[str]) -> dict[str, bytes | str]:
        """As the function `read_all`, with the privileges of the child, which ends."""
        with open(self._ask, "wb") as question:
            question.write(json.dumps(list(paths)).encode())
        with open(self._answer, "rb") as answer:
            data = answer.read()
        _waitpid(self._pid, 0)
        found: dict[str, bytes | str] = pickle.loads(data) if data else {}
        return found


def _answer(question: int, answer: int) -> None:
    # In the child. The question is JSON: user code could have written it.
    with open(question, "rb") as asked, open(answer, "wb") as file:
        if data := asked.read():
            pickle.dump(read_all(json.loads(data)), file)
