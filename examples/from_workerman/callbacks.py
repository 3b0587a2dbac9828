"""Every callback of a Worker, in the order in which a client meets them.

    gworker examples/from_workerman/callbacks.py

Whatever is printed goes to the terminal, with --daemon to /dev/null or to --stdout-file, as in
Workerman.
"""

import os

from gworker import Connection, Worker

worker = Worker(os.environ.get("LISTEN", "text://127.0.0.1:8484"), name="callbacks")


@worker.on_worker_start
def on_worker_start(worker: Worker) -> None:
    print(f"worker {worker.id} starting", flush=True)


@worker.on_worker_reload
def on_worker_reload(worker: Worker) -> None:
    print(f"worker {worker.id} reload", flush=True)


@worker.on_worker_stop
def on_worker_stop(worker: Worker) -> None:
    print(f"worker {worker.id} stopping", flush=True)


@worker.on_connect
def on_connect(connection: Connection) -> None:
    print(f"new connection {connection.id} from {connection.remote_ip}", flush=True)


@worker.on_message
def on_message(connection: Connection, line: str) -> None:
    connection.send("receive success")
    if line == "quit":
        connection.close("bye")


@worker.on_close
def on_close(connection: Connection) -> None:
    print(f"connection {connection.id} closed", flush=True)


@worker.on_error
def on_error(connection: Connection, code: int, message: str) -> None:
    print(f"error {code}: {message}", flush=True)
