from __future__ import annotations

import logging

import pytest

from gworker.wsgi.errors import ErrorLog


def test_a_record_for_what_ends_with_a_line(caplog: pytest.LogCaptureFixture) -> None:
    errors = ErrorLog()
    with caplog.at_level(logging.ERROR, "gworker"):
        assert errors.write("a") == 1
        errors.write("b\nc\n")
        errors.writelines(["d", "e\n"])
        errors.write("f")
        errors.flush()
        errors.flush()
        errors.write("\n")
    assert caplog.messages == [
        "wsgi.errors: ab\nc",
        "wsgi.errors: de",
        "wsgi.errors: f",
    ]


@pytest.mark.parametrize("what", [b"a", None, 3])
def test_it_takes_text(what: object) -> None:
    with pytest.raises(TypeError, match="takes str"):
        ErrorLog().write(what)  # type: ignore[arg-type]
