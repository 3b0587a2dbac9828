"""A table of some 50 MB that each request reads a row of, as a catalogue or a model is read.

BENCH_PORT=9601 gworker benchmarks/preload_app.py:table
"""

import os
from typing import Any

from gworker import Worker
from gworker.http import Request

ROWS = 330_000
TABLE = {number: (f"name-{number}", number * 2.5) for number in range(ROWS)}

table = Worker(f"http://127.0.0.1:{os.environ.get('BENCH_PORT', '9601')}", name="table")


@table.on_message
def answer(_: Any, request: Request) -> str:
    name, _ = TABLE[int(request.path[1:]) % ROWS]
    return name
