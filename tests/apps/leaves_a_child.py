"""Starts a program that outlives it."""

import subprocess

from gworker import Worker

text = Worker("text://127.0.0.1:0")


@text.on_message
def leave(connection, line):
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    connection.send(str(child.pid))
