"""Rates and memory of processes, also of those that have gone, and without descriptors."""

from __future__ import annotations

import os
import resource
import subprocess
from types import SimpleNamespace
from typing import Any

from gworker.ipc.scoreboard import Column
from gworker.master.process_stats import Sampler


def test_rates_are_taken_between_two_samples() -> None:
    process: Any = SimpleNamespace(pid=os.getpid(), row=[0] * len(Column), sample=(0.0, 0.0, 0))
    sampler = Sampler()
    sampler.sample([process], 100.0)
    assert not hasattr(process, "cpu_percent"), "one sample is no rate"
    process.row[Column.REQUESTS] = 30
    sampler.sample([process], 102.0)
    assert process.requests_per_second == 15.0
    assert process.cpu_percent >= 0


def test_a_process_that_has_gone_is_skipped() -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    process: Any = SimpleNamespace(pid=gone.pid, row=[0] * len(Column), sample=(0.0, 0.0, 0))
    Sampler().sample([process], 100.0)
    assert process.sample == (0.0, 0.0, 0)


def test_the_memory_of_a_process_that_has_gone_is_nothing() -> None:
    assert Sampler().rss(2**22 + 1) == 0


def test_without_descriptors_there_are_no_samples_and_no_harm() -> None:
    sampler = Sampler()
    assert sampler.own()[0] > 0
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        found = sampler.own(), sampler.rss(os.getpid()), sampler.memory(os.getpid())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert found == ((0, 0.0), 0, (0, 0))
