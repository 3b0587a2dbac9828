"""A process with a member in a room. Arguments: where the broker listens, and the user.

It prints joins and leaves, and its end is that of its standard input."""

from __future__ import annotations

from functools import partial
from sys import argv, stdin

from gevent import get_hub
from messaging import Client, Process

from gworker.broker.local import LocalBroker

process = Process(
    partial(LocalBroker, argv[1], renew=0.2),
    {"pattern": "room", "presence": True},
    on_presence=lambda group, joined, left, here: print(
        "joined", sorted(each.uid for each in joined), "left", sorted(each.uid for each in left),
        flush=True,
    ),
)  # fmt: skip
client: Client = process.connect()
client.connection.bind(argv[2])
client.connection.join("room")
while line := get_hub().threadpool.apply(stdin.readline):
    print(eval(line, {"messages": process.messages.calls}), flush=True)
