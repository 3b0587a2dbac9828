"""A Worker without a socket: processes that work by the clock, or that consume a queue.

    gworker examples/ticker.py

What it prints is in the terminal, or in the --stdout-file.
"""

import os
import time

from gworker import Timer, Worker

ticker = Worker(name="ticker", count=2)


@ticker.on_worker_start
def start(worker: Worker) -> None:
    """Set the timers of this process. What must happen once, not once per process, belongs to
    process 0."""
    print(f"ticker {worker.id} has started", flush=True)
    if worker.id == 0:
        Timer.add(float(os.environ.get("PERIOD", "1")), tick)


def tick() -> None:
    """A timer keeps its beat and never overlaps itself; it may take its time and block."""
    print(time.strftime("%H:%M:%S"), flush=True)


@ticker.on_worker_stop
def stop(worker: Worker) -> None:
    """Called before the process ends, also at a reload."""
    print(f"ticker {worker.id} has stopped", flush=True)
