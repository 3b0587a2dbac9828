"""What is wrong with a request, found when its handler looks at it. Each carries the answer that it
gets."""

from __future__ import annotations

from gworker.errors import RequestError


class BadRequest(RequestError, ValueError):
    """The client sent what it may not. A handler that lets it escape has it answered with `status`
    and `message`.

    reply: the whole answer, if it is another one. ValueError for a status that does not blame the
    client (400 to 499).
    """

    def __init__(self, message: str, status: int = 400, *, reply: bytes = b"") -> None:
        if not 400 <= status <= 499:
            raise ValueError(f"a BadRequest has a status of 400 to 499, not {status}")
        super().__init__(message, reply)
        self._status = status

    @property
    def status(self) -> int:
        """The status that the client is answered with, unless the handler answers."""
        return int(self.reply[9:12]) if self.reply else self._status


class SlowRequest(RequestError, TimeoutError):
    """Of the body came too little (`min_rate`) in `header_timeout`: 408."""


class ClientGone(RequestError, ConnectionError):
    """The body ends before its end: the client has gone, or finished too early (400)."""


def bad_request(status: int, text: str) -> BadRequest:
    """The error for a request that gets `status` and `text`."""
    from gworker.protocols.http.response import refusal_reply

    return BadRequest(text, reply=refusal_reply(status, text))
