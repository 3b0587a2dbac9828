"""An application that sets up its logging as the standard library's manual shows, which disables
all other loggers."""

import configparser
import logging.config
import os

from gworker import Worker

DICT = {
    "version": 1,
    "handlers": {"out": {"class": "logging.FileHandler", "filename": "own.log"}},
    "root": {"handlers": ["out"], "level": "INFO"},
}

FILE = {
    "loggers": {"keys": "root"},
    "handlers": {"keys": "out"},
    "formatters": {"keys": ""},
    "logger_root": {"level": "INFO", "handlers": "out"},
    "handler_out": {"class": "FileHandler", "args": '("own.log",)'},
}

web = Worker("http://127.0.0.1:0", name="web")
handlers = web


def set_up():
    if os.environ["HOW"] == "dictConfig":
        logging.config.dictConfig(DICT)
    else:
        parser = configparser.ConfigParser()
        parser.read_dict(FILE)
        logging.config.fileConfig(parser)


if os.environ["WHEN"] == "at import":
    set_up()


@web.on_worker_start
def start(worker):
    if os.environ["WHEN"] == "in on_worker_start":
        set_up()


@web.on_message
def fail(connection, request):
    if os.environ["WHEN"] == "in a handler" and request.path != "/fail":
        set_up()
    logging.getLogger("app").info("asked for %s", request.path)
    if request.path == "/fail":
        raise ValueError("failed on purpose")
    return "set up"
