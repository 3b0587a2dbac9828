"""Lines over a unix socket, in the directory of the instance."""

import os

from gworker import Worker

lines = Worker(f"unix://{os.path.abspath('s')}", protocol="text")


@lines.on_message
def fail(connection, line):
    raise ValueError(f"no such command: {line}")
