"""A database in `onWorkerStart`: what was `global $db` is a pool, because handlers run at the same
time.

    MYSQL_HOST=127.0.0.1 gworker examples/from_workerman/database.py

In Workerman one query blocks the process, so one connection is enough. Here other handlers go on
meanwhile: two of them on one database connection would get each other's rows.
"""

import os
from typing import Any

import pymysql
from dbutils.pooled_db import PooledDB

from gworker import Connection, Worker

worker = Worker(os.environ.get("LISTEN", "websocket://127.0.0.1:8484"))
pools: dict[str, Any] = {}


@worker.on_worker_start
def on_worker_start(worker: Worker) -> None:
    """Never open it where another process would inherit it; here nothing is inherited."""
    where = {
        "host": os.environ.get("MYSQL_HOST", "127.0.0.1"),
        "port": int(os.environ.get("MYSQL_PORT", "3306")),
    }
    pools["db"] = PooledDB(
        pymysql, maxconnections=10, blocking=True, user="root", database="shop", **where
    )


@worker.on_message
def on_message(connection: Connection, data: str) -> None:
    with pools["db"].connection() as link, link.cursor() as cursor:
        cursor.execute("show tables")
        connection.send(", ".join(name for (name,) in cursor.fetchall()))
