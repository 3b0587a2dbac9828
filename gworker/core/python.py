"""The core in plain Python: the names of the compiled one, and their types."""

from __future__ import annotations

from typing import Final, Literal

IMPLEMENTATION: Final[Literal["compiled", "Python"]] = "Python"
