"""A pool of PyMySQL connections: each message borrows one, no two share one at the same time.

    MYSQL_HOST=127.0.0.1 gworker examples/databases/pymysql_pool.py

It needs `pip install PyMySQL DBUtils` and a table `items (name, price)`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pymysql
from dbutils.pooled_db import PooledDB

from gworker import Worker

if TYPE_CHECKING:
    from gworker import Connection

prices = Worker(os.environ.get("LISTEN", "text://127.0.0.1:2006"), name="prices")
pool = PooledDB(
    pymysql,
    maxconnections=10,  # in each process; the eleventh message waits for its turn
    blocking=True,
    host=os.environ.get("MYSQL_HOST", "127.0.0.1"),
    port=int(os.environ.get("MYSQL_PORT", "3306")),
    user=os.environ.get("MYSQL_USER", "root"),
    password=os.environ.get("MYSQL_PASSWORD", ""),
    database=os.environ.get("MYSQL_DATABASE", "shop"),
)


@prices.on_message
def price(connection: Connection, item: str) -> None:
    """Answer with the price of an item."""
    with pool.connection() as database, database.cursor() as cursor:
        cursor.execute("SELECT price FROM items WHERE name = %s", (item,))
        row = cursor.fetchone()
    connection.send(str(row[0]) if row else "unknown")


handlers = prices
