"""Serves sockets that it was started with, and tells its version."""

import json
import os
import subprocess

from gworker import Worker

web = Worker("text://127.0.0.1:0")
unix = Worker("text://DIRECTORY/a.sock", transport="unix")
datagrams = Worker("udp://127.0.0.1:0")


@web.on_message
def tell(connection, line):
    if line == "orphan":
        shell = subprocess.check_output(["sh", "-c", "sleep 0.5 >/dev/null & echo $!"])
        connection.send(shell.strip())
    else:
        connection.send(json.dumps(["VERSION", sorted(os.environ), os.getpid()]))


unix.on_message = tell


@datagrams.on_message
def echo(connection, data):
    connection.send(data)
