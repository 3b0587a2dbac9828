"""What tests look at in a response."""

from __future__ import annotations

from gworker.http import Response
from gworker.http.streaming import StreamedBody


def streamed(response: Response) -> StreamedBody:
    """The body of a response that is sent in pieces."""
    assert isinstance(response.body, StreamedBody)
    return response.body
