"""Rates and memory of processes: some are read once a second, the dear ones on demand.

A psutil sample of one process costs 70 µs; USS costs 500 µs and is taken on demand only.
"""

from __future__ import annotations

import os
from collections.abc import Collection

import psutil

from gworker.ipc.scoreboard import Column
from gworker.master.slots import Process


class Sampler:
    """CPU and request rates of the children, and of the arbiter itself."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}
        self._self = psutil.Process(os.getpid())
        self._self.cpu_percent()

    def sample(self, processes: Collection[Process], now: float) -> None:
        """Update `cpu_percent` and `requests_per_second` of every process."""
        for pid in self._known.keys() - {process.pid for process in processes}:
            del self._known[pid]
        for process in processes:
            try:
                times = self._process(process.pid).cpu_times()
            except (psutil.Error, OSError):  # it has gone, or the table of open files is full
                continue
            cpu, requests = times.user + times.system, process.row[Column.REQUESTS]
            then, cpu_then, requests_then = process.sample
            if then:
                process.cpu_percent = round(100 * (cpu - cpu_then) / (now - then), 1)
                process.requests_per_second = round((requests - requests_then) / (now - then), 1)
            process.sample = (now, cpu, requests)

    def _process(self, pid: int) -> psutil.Process:
        if pid not in self._known:
            self._known[pid] = psutil.Process(pid)
        return self._known[pid]

    def rss(self, pid: int) -> int:
        """RSS in bytes; 0 for a process that has gone."""
        try:
            return int(self._process(pid).memory_info().rss)
        except (psutil.Error, OSError):
            return 0

    def memory(self, pid: int) -> tuple[int, int]:
        """(RSS, USS) in bytes; zeros for a process that has gone."""
        try:
            full = self._process(pid).memory_full_info()
        except (psutil.Error, OSError):
            return 0, 0
        return full.rss, full.uss

    def own(self) -> tuple[int, float]:
        """RSS in bytes and CPU percent of the arbiter; zeros while the table of open files is
        full."""
        try:
            return self._self.memory_info().rss, self._self.cpu_percent()
        except OSError:
            return 0, 0.0
