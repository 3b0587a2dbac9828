"""An arbiter with invented answers: DIRECTORY NAME PID_FILE ANSWERS.

ANSWERS is Python, which defines `answer(call)`; it may use what stands here. `quit()` ends the
loop. With `no_socket` there is no control socket.
"""

import json
import os
import selectors
import signal
import sys
import threading
import time

from setproctitle import setproctitle

from gworker.ipc import sealed_memory
from gworker.master import control_server
from gworker.master.control_server import ControlServer
from gworker.master.runtime_files import RuntimeFiles

CONNECTION = {
    "worker": "chat",
    "transport": "tcp",
    "protocol": "text",
    "local": "127.0.0.1:4",
    "remote": "127.0.0.1:5",
    "recv_queue": 0,
    "send_queue": 0,
    "bytes_read": 1,
    "bytes_written": 2,
    "status": "established",
    "age": 3,
}

over = threading.Event()


def quit(*_):
    over.set()


def send_connections(call, missing):
    """The connections of two processes, one process without any, and those that did not answer."""
    for pid in (20, 10):
        fd = sealed_memory.create("rows")
        for number in (1, 2):
            row = {"pid": pid, "id": number, **CONNECTION}
            os.write(fd, json.dumps(row).encode() + b"\n")
        sealed_memory.seal(fd)
        call.send({"pid": pid, "asked": call.arguments}, [fd])
        os.close(fd)
    call.send({"pid": 30})
    call.finish(0, missing=missing)


def work(call, seconds, pause, first=("step", "begun"), ends=True):
    """Take so long over an answer, and tell in each `pause` that it is at work."""
    control_server.PULSE_SECONDS = 0.0

    def pulse():
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            server.pulse(time.monotonic())
            time.sleep(pause)
        if ends:
            call.finish(0)

    call.send(dict([first]))
    threading.Thread(target=pulse, daemon=True).start()


def handle(call):
    """Answer as the arbiter does: an exception is the answer."""
    try:
        globals()["answer"](call)
    except Exception as error:
        call.finish(1, error=f"{type(error).__name__}: {error}")


directory, name, pid_file, answers = sys.argv[1:5]
exec(answers)
files = RuntimeFiles([directory], name, pid_file or None)
setproctitle(f"gworker: master [{name}]")
files.acquire()
selector = selectors.DefaultSelector()
server = ControlServer(files.socket_path, selector, handle)
if "no_socket" not in globals():
    server.open()
wake, waker = os.pipe2(os.O_NONBLOCK)
selector.register(wake, selectors.EVENT_READ, quit)
signal.signal(signal.SIGTERM, lambda *_: os.write(waker, b"."))
signal.signal(signal.SIGQUIT, lambda *_: os._exit(0))
print("ready", flush=True)
while not over.is_set():
    for key, mask in selector.select():
        key.data(mask)
server.close()
files.release()
