"""A dialogue written top to bottom: a handler that owns its connection for as long as it lives.

    gworker examples/session.py:guess --bind text://127.0.0.1:2005

Try it with `nc 127.0.0.1 2005`. Each player has a greenlet; thousands play at once.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gworker.connection.connection import Session


def guess(connection: Session) -> None:
    """Play one game. Returning closes the connection."""
    connection.send("Hello! What is your name?")
    name = connection.recv(timeout=300)  # None if they have left
    number = random.randint(1, 100)
    connection.send(f"I think of a number from 1 to 100, {name}. Which one?")
    for line in connection:
        if not line.isdecimal():
            connection.send("A number, please.")
        elif int(line) == number:
            connection.close(f"Well done, {name}!")
            return
        else:
            connection.send("More." if int(line) < number else "Less.")
