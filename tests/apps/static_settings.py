"""A script that says itself how it is to run, as one of Workerman's does."""

import os

from gworker import Worker

text = Worker("text://127.0.0.1:0", name="text")
NAMES = ("timer_id", "lastMessageTime", "onMessage", "anything")


@text.on_message
def answer(connection, line):
    if line == "fail":
        connection.anything = 1
    for name in NAMES:
        try:
            setattr(connection, name, 1)
        except AttributeError as error:
            connection.send(str(error))
    print("answered", flush=True)
    connection.send("end")


Worker.daemonize = True
Worker.stdout_file = "out"
Worker.log_file = os.path.join(os.getcwd(), "own.log")
Worker.pid_file = "own.pid"
Worker.run_all()
