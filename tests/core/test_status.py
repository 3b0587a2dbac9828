"""Status lines."""

from __future__ import annotations

import pytest

from gworker.core.status import status_line


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, b"HTTP/1.1 200 OK\r\n"),
        (413, b"HTTP/1.1 413 Content Too Large\r\n"),
        (422, b"HTTP/1.1 422 Unprocessable Content\r\n"),
        (299, b"HTTP/1.1 299 \r\n"),
    ],
)
def test_a_status_line_has_the_phrase_of_rfc_9110(status, line):
    assert status_line(status) == line


@pytest.mark.parametrize("status", [99, 600, "200", None, 200.0])
def test_what_is_no_status(status):
    with pytest.raises(ValueError, match="100 to 599"):
        status_line(status)
