"""`gworker.blocking`: the loop goes on while C code waits. In a process of its own, which is
patched."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

SOURCE = """
import json
from gevent import monkey
monkey.patch_all()
import time
from types import SimpleNamespace

import gevent
from gworker import blocking
from gworker.app import worker

sleep = monkey.get_original("time", "sleep")            # as a C library waits: gevent knows nothing of it
ident = monkey.get_original("threading", "get_ident")
found = {}

ticks = []
ticker = gevent.spawn(lambda: [ticks.append(time.sleep(0.005)) for _ in range(10_000)])
began = time.monotonic()
jobs = [gevent.spawn(blocking, lambda: (sleep(0.3), ident())[1]) for _ in range(5)]
gevent.joinall(jobs)
found["ticks"] = len(ticks)
found["seconds"] = time.monotonic() - began
found["threads"] = len({job.value for job in jobs} - {ident()})
ticker.kill()

found["result"] = blocking(int, "ff", base=16)
try:
    blocking(int, "no number")
except ValueError as error:
    found["error"] = str(error)
try:
    blocking(sleep(0))
except TypeError as error:
    found["not a function"] = str(error)

try:
    with gevent.Timeout(0.05):
        blocking(sleep, 0.3)
except gevent.Timeout:
    found["timeout"] = True

from gworker.process import thread_pool as threads
threads._pools.clear()
worker.running.append((SimpleNamespace(options={"blocking_threads": 2}), None))
busy, most = [], []
def count():
    busy.append(1)
    most.append(len(busy))
    sleep(0.05)
    busy.pop()
gevent.joinall([gevent.spawn(blocking, count) for _ in range(6)])
found["most"] = max(most)
found["ran"] = len(most)
print(json.dumps(found))
"""


def test_blocking() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SOURCE)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["threads"] == 5, "each of them beside the loop's own"
    assert found["seconds"] < 1.4, "five times 0.3 s, at once"
    assert found["ticks"] > 5, "others run meanwhile"
    assert found["result"] == 255
    assert found["error"] == "invalid literal for int() with base 10: 'no number'"
    assert "blocking(f, x), not blocking(f(x)); got None" in found["not a function"]
    assert done.stderr == "", "what the caller catches is nobody else's business"
    assert found["timeout"] is True
    assert found["most"] <= 2, "as many threads as the Worker allows"
    assert found["ran"] == 6
