"""A descriptor that other processes go on with wakes this one no more."""

from __future__ import annotations

import os
import select
from types import SimpleNamespace

from gworker.system.epoll import forget


def test_what_is_forgotten_wakes_nothing_while_another_copy_of_it_is_open() -> None:
    epoll = select.epoll()
    reader, writer = os.pipe()
    kept, other = os.pipe()
    copy = os.dup(reader)
    for each in (reader, kept):
        epoll.register(each, select.EPOLLIN)
    loop = SimpleNamespace(fileno=epoll.fileno)
    forget(loop, reader)  # type: ignore[arg-type]
    forget(loop, writer)  # type: ignore[arg-type]  # it was never waited for
    os.close(reader)
    os.write(writer, b"x")
    assert epoll.poll(0) == []
    os.write(other, b"x")
    assert epoll.poll(0) == [(kept, select.EPOLLIN)]
    epoll.close()
    for each in (writer, kept, other, copy):
        os.close(each)
