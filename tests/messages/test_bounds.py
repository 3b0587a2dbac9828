"""How many bytes may wait in a process for what is slow."""

from __future__ import annotations

from collections.abc import Callable

from gworker.messages import backlog, functions
from gworker.messages.backlog import Backlog
from gworker.messages.functions import Functions

MIB = 1 << 20


def test_a_backlog_keeps_the_last_bytes_and_knows_what_it_has_lost() -> None:
    kept = Backlog()
    kept.add(b"marker")
    kept.mark("one")
    for number in range(40):
        kept.add(b"%02d" % number + bytes(MIB))
    assert kept.place(("one", 0)) is None, "these have gone"
    place = kept.place(("one", 30))
    assert place is not None
    assert [payload[:2] for payload in kept.behind(place)] == [b"%d" % n for n in range(30, 40)]
    assert sum(map(len, kept.behind(kept.count - 15))) <= backlog.KEEP_BYTES
    assert kept.place(("one", 24)) is None
    kept.interrupt()
    for _ in range(15):
        kept.add(bytes(MIB))
    assert len(kept.behind(kept.count - 15)) == 15


def test_a_function_that_is_slow_holds_no_more_than_so_many_bytes() -> None:
    works: list[Callable[[], None]] = []
    called: list[int] = []
    waiting = Functions("room", works.append, lambda *words: None)
    waiting.all.append(called.append)
    taken = [number for number in range(40) if waiting.add(number, MIB)]
    assert taken == list(range(functions.MOST_WAITING_BYTES // MIB))
    works.pop()()
    assert called == taken
    assert waiting.add(40, MIB)
