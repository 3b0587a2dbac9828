"""`wsgi.errors`: a text stream into the log."""

from __future__ import annotations

import logging
from collections.abc import Iterable

log = logging.getLogger("gworker")


class ErrorLog:
    """What is written becomes a record of the log at its next line end, or when it is flushed."""

    def __init__(self) -> None:
        self._begun = ""

    def write(self, text: str) -> int:
        """Return the number of characters. Raises TypeError for anything but a str."""
        if not isinstance(text, str):
            raise TypeError(f"wsgi.errors takes str, not {type(text).__name__}")
        self._begun += text
        if text.endswith("\n"):
            self.flush()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        begun, self._begun = self._begun, ""
        if begun := begun.rstrip("\n"):
            log.error("wsgi.errors: %s", begun)
