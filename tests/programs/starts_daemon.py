"""`gworker chat -d`, whose server does what it is told: ACTION OPTIONS..."""

import importlib
import sys
import types

from gworker.errors import ConfigError  # noqa: F401  an action may raise it

fake = types.ModuleType("gworker.cli.serve")


def serve(settings, launch, invocation, document):
    exec(sys.argv[1])
    return 0


fake.serve = serve
sys.modules["gworker.cli.serve"] = fake

main = importlib.import_module("gworker.cli.main").main

sys.exit(main(["chat", "-d", *sys.argv[2:]]))
