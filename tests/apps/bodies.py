"""Handlers that decode large bodies, and what else runs in their process meanwhile."""

import gevent

from gworker import Worker
from gworker.http import Request

web = Worker("http://127.0.0.1:0", name="web")
small = Worker(
    "http://127.0.0.1:0", name="small", max_json_size="1K", upload_dir="spool", stream_above="2K"
)
whole = Worker("http://127.0.0.1:0", name="whole", max_json_size=2000)


def turns(work):
    """How many turns another greenlet has while `work` goes on, and what that returns."""
    done = []

    def count():
        while not done:
            gevent.sleep(1e-6)
            had.append(1)

    had = []
    other = gevent.spawn(count)
    gevent.sleep(0.01)
    before = len(had)
    result = work()
    after = len(had)
    done.append(1)
    other.join()
    return after - before, result


@web.on_message
def decode(connection, request):
    kind, _, name = request.path[1:].partition("/")
    if kind == "form":
        count, value = turns(lambda: request.form[name])
    elif kind == "text":
        count, value = turns(lambda: request.text)
    else:
        count, value = turns(lambda: len(request.json()))
    return {"turns": count, "length": len(value) if isinstance(value, str) else value}


@small.on_message
@whole.on_message
def judge(connection, request):
    if request.path == "/json":
        return {"got": len(request.json())}
    (file,) = request.files.values()
    file.file.fileno()
    return {"dir": Request.upload_dir, "size": file.size}
