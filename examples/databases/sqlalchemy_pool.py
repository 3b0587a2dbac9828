"""SQLAlchemy's engine is a pool: one engine for each process, one session for each message.

    DATABASE_URL=mysql+pymysql://root@127.0.0.1/shop gworker examples/databases/sqlalchemy_pool.py

It needs `pip install SQLAlchemy` with PyMySQL or psycopg, and a table `items (name, price)`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from gworker import Worker

if TYPE_CHECKING:
    from gworker import Connection

prices = Worker(os.environ.get("LISTEN", "text://127.0.0.1:2008"), name="prices")
engine = create_engine(os.environ.get("DATABASE_URL", "sqlite://"), pool_size=10, max_overflow=0)


class Base(DeclarativeBase):
    """What all tables have in common."""


class Item(Base):
    """One row of the table."""

    __tablename__ = "items"
    name: Mapped[str] = mapped_column(primary_key=True)
    price: Mapped[int]


@prices.on_message
def price(connection: Connection, item: str) -> None:
    """Answer with the price of an item."""
    with Session(engine) as session:
        found = session.scalar(select(Item.price).where(Item.name == item))
    connection.send("unknown" if found is None else str(found))


handlers = prices
