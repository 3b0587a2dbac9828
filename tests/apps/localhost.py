"""Workers at `localhost`, which is two addresses."""

import os

from gworker import Worker

lines = Worker("text://localhost:0", name="lines", count=2)
datagrams = Worker("udp://localhost:0", name="datagrams", reuse_port=True)
opening = Worker(name="opening")


@lines.on_message
@datagrams.on_message
def tell(connection, message):
    connection.send(f"{connection.local_ip} {connection.remote_ip} {os.getpid()}")


@opening.on_worker_start
def open_further(worker):
    url = worker.listen("text://localhost:0")
    with open("opened", "w") as file:
        file.write(url)


opening.on_message = tell
