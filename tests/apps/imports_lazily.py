"""Imports within a callback."""

from gworker import Worker

web = Worker("text://127.0.0.1:0")


@web.on_message
def tell(connection, line):
    import lazily
    from helpers import version

    connection.send(version.VERSION + lazily.VERSION)
