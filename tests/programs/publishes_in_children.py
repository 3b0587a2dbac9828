"""Publishes from this process and from children that it forks, while threads of it publish:
`publishes_in_children.py BROKER CLUSTER DIRECTORY CHILDREN`. Prints how many of the children could.
"""

from __future__ import annotations

import os
import sys
import threading

import gworker

broker, cluster, directory, count = sys.argv[1:]
publisher = gworker.Publisher(broker, cluster=cluster, runtime_dir=directory)
publisher.publish("room", "parent")
assert not {"gevent", "greenlet"} & sys.modules.keys()
assert broker != "local" or "redis" not in sys.modules

is_over = threading.Event()


def publish_on() -> None:
    while not is_over.is_set():
        publisher.publish("elsewhere", "x")


threads = [threading.Thread(target=publish_on, daemon=True) for _ in range(3)]
for thread in threads:
    thread.start()
children = []
for number in range(int(count)):
    if (pid := os.fork()) == 0:
        code = 1
        try:
            publisher.publish("room", f"child {number}")
            with publisher:
                publisher.publish("room", f"child {number} again")
            code = 0
        finally:
            os._exit(code)
    children.append(pid)
ended = [os.waitpid(pid, 0)[1] for pid in children]
is_over.set()
for thread in threads:
    thread.join()
publisher.publish("room", "parent again")
print(ended.count(0))
