"""The application of the image: put yours in its place."""

from gworker import Connection, Request


def handle(connection: Connection, request: Request) -> str:
    """Answer every request."""
    return f"{request.path} was asked for\n"
