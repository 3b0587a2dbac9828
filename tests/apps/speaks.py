"""Writes to its outputs and to its log."""

import logging
import sys

from gworker import Worker

text = Worker("text://127.0.0.1:0", count=2)


@text.on_message
def speak(connection, line):
    print("printed", line, flush=True)
    print("complained", line, file=sys.stderr, flush=True)
    logging.getLogger("app").warning("warned %s", line)
    logging.getLogger("gworker.app").info("noted %s", line)
    connection.send(line)
