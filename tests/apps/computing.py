"""`gworker.computing` in handlers, timers, on_worker_start, and where it is refused."""

import multiprocessing
import os
import signal
import threading
import time

import gevent

from gworker import Timer, Worker, blocking, computing

text = Worker("text://127.0.0.1:0", name="text")
begun = []


class Odd(Exception):
    """It cannot be unpacked: it takes two arguments, and keeps one."""

    def __init__(self, number, words):
        super().__init__(words)
        self.number = number


def square(number, seconds=0.0):
    """Compute for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return number * number


def fail(how):
    """Raise, or die."""
    if how == "odd":
        raise Odd(1, "an odd one")
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError(f"no {how}")


def where():
    """The process that computes."""
    return os.getpid(), threading.current_thread().name, type(threading.Lock()).__module__


def many(number, seconds):
    """How many processes compute at once."""
    jobs = [gevent.spawn(computing, square, 1, seconds) for _ in range(number)]
    began = time.monotonic()
    gevent.joinall(jobs, raise_error=True)
    return time.monotonic() - began


def in_time(seconds):
    """The caller gives up."""
    with gevent.Timeout(seconds, False):
        return computing(square, 2, 100.0)
    return "too late"


def in_copy():
    """What a process that was forked here hears."""
    pid = os.fork()
    if pid == 0:
        try:
            computing(square, 2)
        except RuntimeError as error:
            with open("refused", "w") as file:
                file.write(str(error))
        os._exit(0)
    os.waitpid(pid, 0)
    with open("refused") as file:
        return file.read()


def in_process():
    """The same, by multiprocessing, while the pool goes on."""
    process = multiprocessing.Process(target=square, args=(1, 0.1))
    process.start()
    process.join()
    return process.exitcode


COMMANDS = {
    "pid": os.getpid,
    "square": lambda number: computing(square, int(number)),
    "keyword": lambda number: computing(square, number=int(number)),
    "fail": lambda how: computing(fail, how),
    "where": lambda: computing(where),
    "many": lambda number, seconds: many(int(number), float(seconds)),
    "big": lambda: len(computing(bytes, 3_000_000)) + computing(len, bytes(2_000_000)),
    "lambda": lambda: computing(lambda: 1),
    "nothing": lambda: computing(square(2)),
    "thread": lambda: blocking(computing, square, 2),
    "hurry": lambda seconds: in_time(float(seconds)),
    "copy": in_copy,
    "process": in_process,
    "begun": lambda: begun,
    "begin": lambda seconds: gevent.spawn(computing, square, 1, float(seconds)) and "begun",
}


@text.on_message
def obey(connection, line):
    name, *arguments = line.split()
    try:
        answer = COMMANDS[name](*arguments)
    except Exception as error:
        notes = " | ".join(getattr(error, "__notes__", ())).replace("\n", " ")
        answer = f"{type(error).__name__}: {error} {notes}".replace("\n", " ")
    connection.send(str(answer))


@text.on_worker_start
def start(worker):
    begun.append(computing(square, 7))
    Timer.add(0.01, lambda: begun.append(computing(square, 8)), persistent=False)


if __name__ == "__main__":
    Worker.run_all()
