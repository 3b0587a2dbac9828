"""Timers: repeating, once, with arguments, deleted in their own function, one for each connection.

gworker examples/from_workerman/timers.py
"""

import os
import time

from gworker import Connection, Timer, Worker

PERIOD = float(os.environ.get("PERIOD", "2.5"))

task = Worker(os.environ.get("LISTEN", "text://127.0.0.1:8486"), name="task", count=2)


def send_mail(to: str, content: str) -> None:
    print(f"send mail to {to}: {content}", flush=True)


def tick_three_times(state: dict[str, int]) -> None:
    """A timer deletes itself."""
    state["count"] += 1
    print(f"tick {state['count']}", flush=True)
    if state["count"] == 3:
        Timer.delete(state["timer_id"])


@task.on_worker_start
def on_worker_start(worker: Worker) -> None:
    """In process 0 only, or each process would send the mail."""
    if worker.id == 0:
        Timer.add(PERIOD, send_mail, ("workerman@example.org", "hello"), False)
        state = {"count": 0}
        state["timer_id"] = Timer.add(PERIOD, tick_three_times, (state,))


@task.on_connect
def on_connect(connection: Connection) -> None:
    """`connection.timer_id` of the manual is `connection.context.timer_id`."""
    connection.context.timer_id = Timer.add(PERIOD, lambda: connection.send(str(time.time())))


@task.on_close
def on_close(connection: Connection) -> None:
    """A timer does not end with its connection."""
    Timer.delete(connection.context.timer_id)
