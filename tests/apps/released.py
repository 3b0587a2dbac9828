"""An application that tells which release of it serves, by what it has imported early and late."""

import os

import release

from gworker import Worker

text = Worker("text://127.0.0.1:0", name="text", count=2)


@text.on_message
def answer(connection, line):
    import late

    connection.send(
        f"{release.NUMBER} {late.NUMBER} {os.path.dirname(os.path.abspath(late.__file__))} "
        f"{os.getpid()}"
    )


@text.on_worker_exit
def exited(worker, id, pid, reason):
    with open(os.environ["EXITS"], "a") as file:
        file.write(f"{release.NUMBER}\n")


if __name__ == "__main__":
    Worker.run_all()
