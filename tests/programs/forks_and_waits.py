"""Forks by the function that is named, a child that ends before gevent gets to watch for it."""

from gevent import monkey

monkey.patch_all()
import os
import sys

import gevent
import gevent.os

from gworker.process import cooperative

cooperative.install()
watch = gevent.os.fork_and_watch


def watch_late(callback=None, loop=None, ref=False, fork=gevent.os.fork_gevent):
    def fork_and_wait():
        result = fork()
        pid = result[0] if isinstance(result, tuple) else result
        if pid:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return result

    return watch(callback, loop, ref, fork_and_wait)


gevent.os.fork_and_watch = watch_late
result = getattr(os, sys.argv[1])()
pid = result[0] if isinstance(result, tuple) else result
if pid == 0:
    os._exit(3)
with gevent.Timeout(20):
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
