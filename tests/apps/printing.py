"""Prints, complains, and has programs that it starts do the same. A script as well as a module."""

import subprocess
import sys

from gworker import Worker

text = Worker("text://127.0.0.1:0", name="text")


@text.on_message
def speak(connection, line):
    print("printed", line * 100, flush=True)
    print("complained", line * 100, file=sys.stderr, flush=True)
    program = "echo printed $0; echo complained $0 >&2; cat"
    subprocess.run(["sh", "-c", program, line * 100], check=True)
    connection.send(line)


if __name__ == "__main__":
    Worker.run_all()
