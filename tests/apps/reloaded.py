"""Tells its version wherever it is asked."""

import os  # noqa: F401  for what stands at MORE

from gworker import Worker

tcp = Worker("tcp://127.0.0.1:0", count=2)
unix = Worker("text://DIRECTORY/x.sock", transport="unix")
own = Worker("tcp://127.0.0.1:0", reuse_port=True)
kept = Worker(reloadable=False)
# MORE


@tcp.on_message
def tell(connection, data):
    connection.send("VERSION")


own.on_message = tell


@unix.on_message
def answer(connection, line):
    connection.send("VERSION")


@kept.on_worker_reload
def told(worker):
    open("told", "a").write("VERSION\n")
