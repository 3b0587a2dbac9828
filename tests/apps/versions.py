"""Tells its version, over TCP and HTTP."""

from gworker import Worker

tcp = Worker("tcp://127.0.0.1:0")
web = Worker("http://127.0.0.1:0")


@tcp.on_message
def tell(connection, data):
    connection.send("v0\n")


@web.on_message
def page(connection, request):
    connection.send("v0")
