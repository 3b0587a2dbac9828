"""A pool of psycopg 3 connections: it opens with the process and closes with it.

    DATABASE_URL=postgresql://shop@127.0.0.1/shop gworker examples/databases/psycopg3_pool.py

It needs `pip install "psycopg[binary,pool]"` and a table `items (name, price)`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from psycopg_pool import ConnectionPool

from gworker import Worker

if TYPE_CHECKING:
    from gworker import Connection

prices = Worker(os.environ.get("LISTEN", "text://127.0.0.1:2007"), name="prices")
pool = ConnectionPool(os.environ.get("DATABASE_URL", ""), max_size=10, open=False)


@prices.on_worker_start
def begin(_worker: Worker) -> None:
    """Open the pool; the process is ready when the database has answered."""
    pool.open(wait=True, timeout=10)


@prices.on_worker_stop
def end(_worker: Worker) -> None:
    """Give the connections back to the database."""
    pool.close()


@prices.on_message
def price(connection: Connection, item: str) -> None:
    """Answer with the price of an item."""
    with pool.connection() as database:
        row = database.execute("SELECT price FROM items WHERE name = %s", (item,)).fetchone()
    connection.send(str(row[0]) if row else "unknown")


handlers = prices
