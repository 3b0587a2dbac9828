"""Needs a few descriptors again and again, whatever its clients take."""

from recording import record

from gworker import Timer, Worker

worker = Worker("text://127.0.0.1:0", name="text")


@worker.on_connect
def greet(connection):
    connection.close("bye")


@worker.on_message
def never(connection, line):
    pass


refused = []


def use_files():
    try:
        for each in [open("/dev/null") for _ in range(20)]:
            each.close()
    except OSError:
        refused.append(1)
        record("files", "refused", len(refused))


@worker.on_worker_start
def begin(worker):
    Timer.add(0.01, use_files)
