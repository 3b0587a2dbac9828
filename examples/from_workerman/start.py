"""Several Workers in one script, with the manual's static settings.

    python examples/from_workerman/start.py start

and `start -d`, `status`, `reload`, `restart -d`, `stop`. What the command line says wins over the
static settings.
"""

import os

from gworker import Connection, Request, Worker

if "PID_FILE" in os.environ:
    Worker.pid_file = os.environ["PID_FILE"]
if "LOG_FILE" in os.environ:
    Worker.log_file = os.environ["LOG_FILE"]
if "STDOUT_FILE" in os.environ:
    Worker.stdout_file = os.environ["STDOUT_FILE"]

http_worker = Worker(os.environ.get("HTTP", "http://127.0.0.1:8686"))
http_worker.name = "MyWebWorker"
http_worker.count = 2

text_worker = Worker(os.environ.get("TEXT", "text://127.0.0.1:8687"))
text_worker.name = "MyTextWorker"
text_worker.reloadable = False


@http_worker.on_message
def on_request(connection: Connection, request: Request) -> None:
    print(f"GET {request.path}", flush=True)
    connection.send(f"hello from process {connection.worker.id}")


@text_worker.on_message
def on_line(connection: Connection, line: str) -> None:
    connection.send("hello " + line)


if __name__ == "__main__":
    Worker.run_all()
