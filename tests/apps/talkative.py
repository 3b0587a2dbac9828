"""Processes that send their arbiter messages without an end, once there are no successors."""

import ctypes
import os

from gworker import Timer, Worker

if os.path.exists("no-successors"):
    raise RuntimeError("there are none")
loud = Worker("text://127.0.0.1:0", count=8, on_worker_start=lambda worker: Timer.add(0.001, talk))
ninth = Worker(
    "text://127.0.0.1:0", on_message=lambda connection, line: ctypes.CDLL(None).sleep(600)
)


def talk():
    for _ in range(50 * os.path.exists("no-successors")):
        Worker.stop_all()
