"""Callbacks with the wrong number of arguments."""

import sys


def on_error(connection, code):
    pass


def on_close(connection, *, why):
    pass


this_module = sys.modules[__name__]
a_dict = {"on_close": on_close}


class Handler:
    def on_message(self, connection):
        pass


instance = Handler()


class Static:
    @staticmethod
    def on_message(one, connection, data):
        pass


class Forgotten:
    def on_message(connection, data):
        pass


forgotten = Forgotten()


def three(environ, start, more):
    pass


async def coroutine(connection, data):
    pass
