"""Tells its environment and its limits."""

import json
import os

from gworker import Worker

chat = Worker("text://127.0.0.1:0", idle_timeout=70, header_timeout=7)


@chat.on_message
def answer(connection, line):
    ours = {
        key: value for key, value in os.environ.items() if key.startswith(("GWORKER", "GREETING"))
    }
    connection.send(json.dumps([ours, chat.id, connection.max_package_size]))
