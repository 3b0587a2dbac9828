"""A callback that never gives way, and one that waits for a minute."""

import time

from gworker import Worker

text = Worker("text://127.0.0.1:0")

slow = Worker("text://127.0.0.1:0")


@text.on_message
def block(connection, line):
    while True:
        pass


@slow.on_message
def linger(connection, line):
    time.sleep(60)
