"""Reading certificates and keys, which often only root may, for processes that are not root any
more.

    read_all()   in a child that is still root: what its Worker has declared, kept for later
    Reader       in the probe, which learns only as an unprivileged user which files there are
    pack()       in the arbiter at a reload, for processes that are kept (`reloadable=False`);
                 `unpack` is theirs

What is read for somebody with fewer rights has to look like a certificate or a key of TLS: whoever
can change the target would otherwise have every file read. No ssl here: the arbiter uses this.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping

from gworker.errors import ConfigError

MAX_FILE = 1 << 20
"""Bytes: a file that is larger holds no certificates of a server."""

PEM = re.compile(
    rb"-----BEGIN ((TRUSTED )?CERTIFICATE|X509 CRL|((RSA|EC|ENCRYPTED) )?PRIVATE KEY)-----"
)

Held = Mapping[str, bytes | str]
"""What is in files, by path; or, a string, why that could not be read."""

_waitpid = os.waitpid
"""Not gevent's, which waits in its event loop."""


class Files:
    """The contents of files, by path. held: what was read by somebody who may."""

    def __init__(self, held: Held | None = None) -> None:
        self._held = dict(held or {})

    def read(self, path: str) -> bytes:
        """What is in `path`. Raises ConfigError naming it."""
        try:
            return read(path)
        except OSError as error:
            found = (
                self._held.get(path, error.strerror)
                if error.errno == errno.EACCES
                else error.strerror
            )
            if isinstance(found, bytes):
                return found
            raise ConfigError(f"{path}: {found}") from None


def read(path: str) -> bytes:
    """The bytes of a regular file of at most MAX_FILE bytes. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if found.st_size > MAX_FILE:
            raise OSError(errno.EFBIG, "too large for a certificate or a key")
        return file.read()


def read_all(paths: Iterable[str]) -> dict[str, bytes | str]:
    """What is in each of `paths`: b"" if it is not PEM; or why it cannot be read, in words."""
    found: dict[str, bytes | str] = {}
    for path in paths:
        try:
            data = read(path)
        except OSError as error:
            found[path] = error.strerror or str(error)
        else:
            found[path] = data if PEM.search(data) else b""
    return found


def pack(paths: Iterable[str]) -> int:
    """A memory file with what `read_all` finds. Raises OSError."""
    descriptor = os.memfd_create("gworker-tls", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(_encode(read_all(paths)))
    return descriptor


def unpack(descriptor: int) -> dict[str, bytes | str]:
    """What is in a memory file of `pack`, which is closed."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        return _decode(file.read())


def _encode(found: Held) -> bytes:
    """JSON: for each path [what is in it, why it cannot be read], one of them null."""
    coded = {
        path: [data.decode("latin-1"), None] if isinstance(data, bytes) else [None, data]
        for path, data in found.items()
    }
    return json.dumps(coded).encode()


def _decode(data: bytes) -> dict[str, bytes | str]:
    return {
        path: why if text is None else text.encode("latin-1")
        for path, (text, why) in json.loads(data).items()
    }


class Reader:
    """A child that keeps the privileges that this process is about to give up. It answers once."""

    def __init__(self) -> None:
        theirs_in, self._ask = os.pipe()
        self._answer, theirs_out = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            code = 1
            try:
                os.close(self._ask)
                os.close(self._answer)
                _answer(theirs_in, theirs_out)
                code = 0
            finally:
                os._exit(code)
        os.close(theirs_in)
        os.close(theirs_out)

    def read_all(self, paths: Iterable[str]) -> dict[str, bytes | str]:
        """As `read_all`, with its privileges; then it is gone."""
        with open(self._ask, "wb") as question:
            question.write(json.dumps(list(paths)).encode())
        with open(self._answer, "rb") as answer:
            data = answer.read()
        _waitpid(self._pid, 0)
        return _decode(data or b"{}")


def _answer(question: int, answer: int) -> None:
    with open(question, "rb") as asked, open(answer, "wb") as file:
        data = asked.read()
        if data:
            file.write(_encode(read_all(json.loads(data))))
