"""A callback that waits for the file `done`."""

import os
import time

from gworker import Worker

text = Worker("text://127.0.0.1:0")


@text.on_message
def slowly(connection, line):
    while line == "wait" and not os.path.exists("done"):
        time.sleep(0.01)
    connection.send("old")
