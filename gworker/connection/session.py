"""A connection as its connection handler gets it.

    def handler(connection):
        for message in connection:
            connection.send(message)

It is a Connection like every other one; that it has a handler is its job's affair (`handler_job`).
"""

from __future__ import annotations

from gworker.connection.connection import Connection as Session

__all__ = ["Session"]
