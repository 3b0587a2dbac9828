"""What an HTTP handler sees: the request that it gets and the response that it gives.

Nothing here knows a socket or a parser.
"""

from __future__ import annotations

from gworker.http.headers import Headers
from gworker.http.parameters import Parameters
from gworker.http.request import Request
from gworker.http.response import Response

__all__ = ["Headers", "Parameters", "Request", "Response"]
