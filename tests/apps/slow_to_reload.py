"""Its callbacks say when they begin and end; on_worker_reload takes a while."""

import time

from gworker import Worker

text = Worker("text://127.0.0.1:0", name="text")


def note(word):
    with open("notes", "a") as file:
        file.write(word + "\n")


@text.on_worker_reload
def reloaded(worker):
    note("begins")
    time.sleep(0.5)
    note("ends")


@text.on_worker_stop
def stopped(worker):
    note("stopped")
