"""All processes count together in the shared dictionary; `down` while that does not answer."""

from gworker import Worker, messages
from gworker.errors import BrokerDown

counts = Worker("tcp://127.0.0.1:0", name="counts")


@counts.on_message
def count(connection, message):
    try:
        connection.send(b"%d" % messages.data.increment("count"))
    except BrokerDown:
        connection.send(b"down")
