"""An app that is a program of its own, too."""

import time

from gworker import Worker

text = Worker("text://127.0.0.1:0", name="text")


@text.on_message
def answer(connection, line):
    connection.send(line)
    time.sleep(0.3)
    connection.send("done")


if __name__ == "__main__":
    Worker.run_all()
