"""Forks wherever user code can. A copy writes what it does to the file `copies`, one line `PID
WORDS`."""

import os
import select
import socket
import subprocess
import sys
import threading
import time
from multiprocessing import get_context

import gevent

from gworker import Timer, Worker, blocking, connect

text = Worker("text://127.0.0.1:0", name="text")
AT_IMPORT = os.environ.get("FORK_AT_IMPORT")


def note(*words):
    """Write down what this process does."""
    line = f"{os.getpid()} {' '.join(map(str, words))}\n"
    descriptor = os.open("copies", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def sleep_in_copy(seconds):
    """What most copies do: they wait, while their event loop turns."""
    note("sleeps")
    time.sleep(seconds)
    note("slept")
    os._exit(0)


def fork(seconds):
    """The pid of a copy that sleeps."""
    pid = os.fork()
    if pid == 0:
        sleep_in_copy(seconds)
    return pid


def fork_with_terminal(seconds):
    """The same by forkpty; what the terminal says is not read."""
    pid, _ = os.forkpty()
    if pid == 0:
        sleep_in_copy(seconds)
    return pid


def fork_unpatched(seconds):
    """The same past gevent, as a library does that has got hold of the real fork before."""
    from gevent.monkey import get_original

    pid = get_original("os", "fork")()
    if pid == 0:
        sleep_in_copy(seconds)
    return pid


def start_process(seconds, method):
    """The pid of a process of multiprocessing."""
    process = get_context(method).Process(target=time.sleep, args=(seconds,))
    process.start()
    return process.pid


def in_timer(function, *arguments):
    """What `function` returns in a timer."""
    done = gevent.event.AsyncResult()
    Timer.add(0, lambda: done.set(function(*arguments)), persistent=False)
    return done.get()


def in_loop(function, *arguments):
    """What `function` returns in a callback of the event loop."""
    done = gevent.event.AsyncResult()
    gevent.get_hub().loop.run_callback(lambda: done.set(function(*arguments)))
    return done.get()


def leave_by(what):
    """The wait status of a copy that ends as `what` says."""
    pid = os.fork()
    if pid == 0:
        if what == "raise":
            raise ValueError("raised in a copy")
        if what.isdigit():
            sys.exit(int(what))
        return ""  # control comes back to the server
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def use_gevent():
    """What of gevent goes on in a copy: what was begun before, and what is new."""
    ours, theirs = socket.socketpair()
    lock = threading.Lock()
    beats = []

    def beat():
        while True:
            time.sleep(0.01)
            beats.append(os.getpid())

    gevent.spawn(beat)
    time.sleep(0.05)
    pid = os.fork()
    if pid:
        theirs.sendall(b"from the parent")
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with lock:
        assert ours.recv(100) == b"from the parent"
    assert gevent.spawn(lambda: (time.sleep(0.05), 42)[1]).get() == 42
    assert subprocess.run(["echo", "hello"], capture_output=True, check=True).stdout == b"hello\n"
    thread = threading.Thread(target=time.sleep, args=(0.05,))
    thread.start()
    thread.join()
    assert blocking(os.getpid) == os.getpid()
    assert os.getpid() in beats, "a greenlet of the user's goes on"
    times = []
    Timer.add(0.02, lambda: times.append(1))
    time.sleep(0.2)
    assert len(times) > 2
    assert len(text.connections) == 0
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = connect(f"text://127.0.0.1:{server.getsockname()[1]}")
        connection.send("dialled")
        assert server.accept()[0].recv(100) == b"dialled\n"
    Worker.stop_all()
    sys.exit(7)


def wait_by(what, seconds):
    """What a handler may be in the middle of when another one forks; it writes down that it has
    gone on."""
    if what == "sleep":
        time.sleep(seconds)
    elif what == "socket":
        ours, theirs = socket.socketpair()
        Timer.add(seconds, theirs.sendall, (b"answer",), persistent=False)
        assert ours.recv(100) == b"answer"
    elif what == "end":  # the socket stays readable
        ours, theirs = socket.socketpair()
        Timer.add(seconds, theirs.close, persistent=False)
        assert ours.recv(100) == b""
        time.sleep(seconds)
    elif what == "poll":
        ours, theirs = socket.socketpair()
        Timer.add(seconds, theirs.sendall, (b"answer",), persistent=False)
        poll = select.poll()
        poll.register(ours, select.POLLIN)
        assert poll.poll()
        time.sleep(seconds)
    note("went on after", what)
    return what


def fork_busy(seconds):
    """A copy that says how much of the processor it has used while it slept."""
    pid = os.fork()
    if pid == 0:
        before = time.process_time()
        time.sleep(seconds)
        note("used", time.process_time() - before)
        os._exit(0)
    return pid


def send_in_copy(connection):
    """What a copy hears from its parent's connections."""
    pid = os.fork()
    if pid == 0:
        note("send", connection.send("from the copy"), connection.status)
        connection.close("from the copy")
        connection.destroy()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fork_late(seconds):
    """Fork when the process retires already."""
    while not text.stopping:
        time.sleep(0.01)
    time.sleep(0.2)
    return fork(seconds)


COMMANDS = {
    "pid": os.getpid,
    "late": lambda seconds: fork_late(float(seconds)),
    "wait": lambda what, seconds: wait_by(what, float(seconds)),
    "busy": lambda seconds: fork_busy(float(seconds)),
    "fork": lambda seconds: fork(float(seconds)),
    "terminal": lambda seconds: fork_with_terminal(float(seconds)),
    "unpatched": lambda seconds: fork_unpatched(float(seconds)),
    "blocking": lambda seconds: blocking(fork, float(seconds)),
    "blocking-terminal": lambda seconds: blocking(fork_with_terminal, float(seconds)),
    "timer": lambda seconds: in_timer(fork, float(seconds)),
    "loop": lambda seconds: in_loop(fork, float(seconds)),
    "greenlet": lambda seconds: gevent.spawn(fork, float(seconds)).get(),
    "process": lambda seconds, method: start_process(float(seconds), method),
    "leave": leave_by,
    "gevent": use_gevent,
    "send": send_in_copy,
    "execute": lambda seconds: subprocess.Popen(["sleep", seconds]).pid,
    "session": lambda seconds: subprocess.Popen(["sleep", seconds], start_new_session=True).pid,
}


@text.on_message
def obey(connection, line):
    name, *arguments = line.split()
    if name == "send":
        arguments = [connection]
    connection.send(str(COMMANDS[name](*arguments)) + f" {os.getpid()}")


@text.on_close
def closed(connection):
    note("on_close")


@text.on_worker_start
def start(worker):
    if where := os.environ.get("FORK_AT_START"):
        note("forked", fork(float(where)))


@text.on_worker_stop
def stop(worker):
    note("on_worker_stop")


if AT_IMPORT:
    fork(float(AT_IMPORT))
    start_process(float(AT_IMPORT), "fork")
