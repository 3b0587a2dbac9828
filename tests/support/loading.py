"""How tests load apps: see the fixture `load`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gworker.app.worker import Worker
from gworker.errors import LoadError

Load = Callable[..., list[Worker]]


def fails(load: Load, source: str, attribute: str = "", **options: object) -> LoadError:
    """The error with which loading `source` fails."""
    with pytest.raises(LoadError) as caught:
        load(source, attribute, **options)
    return caught.value
