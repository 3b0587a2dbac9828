"""A process that opens a path twice."""

import os

from gworker import ConfigError, Worker


def start(worker):
    for _ in range(2):
        try:
            worker.listen("unix://" + os.path.abspath("more.sock"))
        except ConfigError as error:
            with open("refused", "a") as file:
                file.write(f"{error}\n")


one = Worker("text://127.0.0.1:0", name="one", protocol="text", on_worker_start=start)
one.on_message = lambda connection, line: connection.send(connection.local_address)
