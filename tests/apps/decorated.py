"""Handlers whose decorator adds an argument."""

import functools


def with_database(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return function(*arguments, "database")

    return wrapper


@with_database
def handle(connection, data, database):
    pass


class Handler:
    @with_database
    def on_message(self, connection, data, database):
        pass

    @with_database
    def on_close(self, connection, database):
        pass
