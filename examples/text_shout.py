"""A line protocol: each line comes back in capitals.

    gworker examples/text_shout.py

Try it with `nc 127.0.0.1 2001`; the line "bye" ends the connection.
"""

import os

from gworker import Connection, Worker

# A reload moves connections also where there is an `on_connect`: here, no process keeps a register
# of its connections.
shout = Worker(os.environ.get("LISTEN", "text://127.0.0.1:2001"), name="shout", handover=True)


@shout.on_connect
def greet(connection: Connection) -> None:
    """Speak first: a text connection is open as soon as it is accepted."""
    connection.send(f"hello {connection.remote_ip}")


@shout.on_message
def answer(connection: Connection, line: str) -> None:
    """Called once per line, however the lines were cut up on their way."""
    if line == "bye":
        connection.close("BYE")
    else:
        connection.send(line.upper())
