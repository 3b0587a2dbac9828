"""A script that is its own server."""

import os

from gworker import Worker

web = Worker("text://127.0.0.1:0", name="web")


@web.on_message
def answer(connection, line):
    connection.send(f"{__name__} VERSION {os.path.basename(__file__)}")


if __name__ == "__main__":
    Worker.run_all()
