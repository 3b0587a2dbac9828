"""Echoes bytes, and lines in capitals."""

from gworker import Worker

tcp = Worker("tcp://127.0.0.1:0")
text = Worker("text://127.0.0.1:0")


@tcp.on_message
def echo(connection, data):
    connection.send(data)


@text.on_message
def shout(connection, line):
    connection.send(line.upper())
