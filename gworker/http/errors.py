"""What is wrong with a request, found when its handler looks at it. Each carries the answer that it gets."""

from __future__ import annotations

from gworker.errors import RequestError


class BadRequest(RequestError, ValueError):
    """The client sent what it may not. `status`: what it is answered with, if the handler does not answer."""

    def __init__(self, message: str, reply: bytes = b"") -> None:
        super().__init__(message, reply)

    @property
    def status(self) -> int:
        """Of the answer."""
        return int(self.reply[9:12]) if self.reply else 400


class SlowRequest(RequestError, TimeoutError):
    """Of the body came too little (`min_rate`) in `header_timeout`: 408."""


class ClientGone(RequestError, ConnectionError):
    """The body ends before its end: the client has gone, or finished too early (400)."""


def bad_request(status: int, text: str) -> BadRequest:
    """The error for a request that gets `status` and `text`."""
    from gworker.protocols.http_response import refusal_reply

    return BadRequest(text, refusal_reply(status, text))
