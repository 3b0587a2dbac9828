"""Forks in a process that is guarded, as user code would: CASE. Prints what each process sees."""

from gevent import monkey

monkey.patch_all()

import os
import signal
import sys
import threading

import gevent.os
from gevent.event import Event

from gworker.process import cooperative
from gworker.system import fork_guard

MASKED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def refuse() -> None:
    raise RuntimeError("cannot be released")


def fork() -> bool:
    """True in the copy; the parent says how that has ended."""
    pid = os.fork()
    if pid:
        say(f"parent: {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}")
        return False
    say(f"copy: {fork_guard.is_copy()}")
    return True


def fork_and_return(done: Event) -> None:
    if fork():
        raise ValueError("of the copy")
    done.set()


def fork_and_go_on() -> None:
    if fork():
        gevent.sleep(0.01)
        fork_guard.end()
        say("not reached")


def fork_twice() -> None:
    if fork():
        fork()
        os._exit(3)


def fork_and_make_greenlet() -> None:
    if fork():
        fork_guard.end(gevent.spawn(fork_guard.end).get())  # the first call ends nothing


def execute() -> None:
    if not fork_guard.unguarded(os.fork)():
        say(f"copy: {fork_guard.is_copy()}")
        os._exit(0)
    os.wait()


def in_greenlet() -> None:
    done = Event()
    gevent.spawn(fork_and_return, done)
    done.wait()


def in_thread() -> None:
    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()


def silenced() -> None:
    """A greenlet of the parent does not run on in the copy."""
    other = gevent.spawn_later(0.01, say, "other")
    fork_guard.on_fork(lambda: fork_guard.silence([other], lambda _greenlet: False))
    if fork():
        gevent.sleep(0.05)
        fork_guard.end()
    other.join()


def exit_with_text() -> None:
    if fork():
        fork_guard.end(SystemExit("for stderr"))


def failing() -> None:
    fork_guard.on_fork(refuse)
    fork()


def report(text: str) -> None:
    say("report: " + text.splitlines()[0])


if __name__ == "__main__":
    signal.alarm(20)
    cooperative.install()
    fork_guard.guard("copy of a test", report, lambda: say("flush"))
    fork_guard.on_fork(lambda: say("release"))
    try:
        globals()[sys.argv[1]]()
    except BaseException as error:  # as of the loop that has nothing left to do
        fork_guard.end(error)
        raise
    fork_guard.end()
    blocked = MASKED & signal.pthread_sigmask(signal.SIG_BLOCK, ())
    say(f"end: {fork_guard.is_copy()}, {len(blocked)} signals are blocked")
