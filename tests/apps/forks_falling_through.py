"""Copies that do not end by themselves, wherever gworker calls user code outside connections."""

import os
import sys

from gworker import Worker


def note(*words):
    """Append a line to the file `ends`."""
    descriptor = os.open("ends", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    os.close(descriptor)


def fork_at(place):
    """Three copies: one goes on, one exits, one raises. Only in them it returns or raises early."""
    for how in ("return", "exit", "raise"):
        pid = os.fork()
        if pid == 0:
            if how == "exit":
                sys.exit(4)
            if how == "raise":
                raise ValueError(f"a copy at {place}")
            return
        note(place, how, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


fork_at("import")
text = Worker("text://127.0.0.1:0", name="text")
text.on_worker_start = lambda worker: fork_at("start")
text.on_worker_reload = lambda worker: fork_at("reload")
text.on_worker_stop = lambda worker: fork_at("stop")
text.on_master_reload = lambda worker: fork_at("master_reload")
