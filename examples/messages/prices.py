"""Prices: a client that comes gets the last one of each, then every change.

    gworker examples/messages/prices.py -w 4
    websocat ws://127.0.0.1:9504/

A `latest` group keeps the last message of each key.
"""

import os
import random

from gworker import Connection, Timer, Worker, messages

messages.declare("prices", mode="latest", history=1000)

prices = Worker(os.environ.get("LISTEN", "ws://127.0.0.1:9504"), name="prices")
feed = Worker(name="feed", count=1)

SYMBOLS = ("BTC", "ETH", "GOLD", "OIL")


@prices.on_message
def receive(connection: Connection, data: str | bytes) -> None:
    """Any message subscribes; "stop" ends it."""
    if data == "stop":
        connection.leave("prices")
    else:
        connection.join("prices")


@feed.on_worker_start
def start(worker: Worker) -> None:
    """One process reads the market, which here is a die."""
    Timer.add(float(os.environ.get("PERIOD", "0.5")), tick)


def tick() -> None:
    symbol = random.choice(SYMBOLS)
    messages.publish(
        "prices", {"symbol": symbol, "price": round(random.uniform(10, 99), 2)}, key=symbol
    )
