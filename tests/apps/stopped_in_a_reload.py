"""A peer that has begun a message has a minute at a reload, and a second at a stop."""

from gworker import Worker
from gworker.process import graceful_shutdown

graceful_shutdown.RELOAD_SILENCE = 60.0

lines = Worker("text://127.0.0.1:0", name="lines", handover=False)


@lines.on_message
def answer(connection, line):
    """Say it again."""
    connection.send(line)
