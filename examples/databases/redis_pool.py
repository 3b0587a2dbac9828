"""redis-py's client holds a pool: one client for each process serves all of its handlers.

    REDIS_URL=redis://127.0.0.1:6379/0 gworker examples/databases/redis_pool.py

It needs `pip install redis` and keys `price:NAME`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import redis

from gworker import Worker

if TYPE_CHECKING:
    from gworker import Connection

prices = Worker(os.environ.get("LISTEN", "text://127.0.0.1:2009"), name="prices")
pool = redis.BlockingConnectionPool.from_url(
    os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    max_connections=10,  # in each process; the eleventh message waits for its turn
    timeout=5,
    decode_responses=True,
)
store = redis.Redis(connection_pool=pool)


@prices.on_message
def price(connection: Connection, item: str) -> None:
    """Answer with the price of an item."""
    connection.send(str(store.get(f"price:{item}") or "unknown"))


handlers = prices
