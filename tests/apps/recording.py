"""What apps under test tell about their connections. Beside an app that imports it: `serving` puts
it there."""

from gworker import Timer

_events = open("events", "a", buffering=1)


def record(connection, *words):
    """Write down what happened to a connection."""
    port = getattr(connection, "remote_port", connection)
    _events.write(f"{port} {' '.join(map(str, words))}\n")


def outside(function, *arguments):
    """Call `function` in a greenlet of its own."""
    Timer.add(0, function, arguments, persistent=False)
