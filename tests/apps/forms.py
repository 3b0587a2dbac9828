"""Everything that an app may be: callbacks, handlers, classes, modules."""

import http.server
import socketserver
import sys


def message(connection, data):
    pass


def with_default(connection, data, more=None):
    pass


def any_number(*arguments):
    pass


def connection_handler(connection):
    pass


def connection_handler_with_default(connection, more=None):
    pass


a_lambda = lambda connection, data: None  # noqa: E731  one of the forms


class Instance:
    def on_message(self, connection, data):
        pass

    def on_close(self, connection):
        pass

    def method(self, connection, data):
        pass

    def session(self, connection):
        pass


instance = Instance()
method = instance.method
session = instance.session


class Callable:
    def __call__(self, connection, data):
        pass


a_callable = Callable()


class Static:
    @staticmethod
    def on_message(connection, data):
        pass

    @classmethod
    def on_close(cls, connection):
        pass


def on_message(connection, data):
    pass


def on_worker_start(worker):
    pass


this_module = sys.modules[__name__]
a_dict = {"on_message": on_message, "on_connect": print, "other": 1}


class Base(socketserver.BaseRequestHandler):
    pass


class Stream(socketserver.StreamRequestHandler):
    pass


class Http(http.server.SimpleHTTPRequestHandler):
    pass


class Datagram(socketserver.DatagramRequestHandler):
    pass
