"""What a probe says that the target declares."""

from __future__ import annotations

import pytest
from world import declaration

from gworker.errors import ConfigError
from gworker.master.rollout_events import Declared


def test_declarations_come_back_as_they_were_sent() -> None:
    sent = [declaration("chat", count=2), declaration("web")]
    assert Declared([each.to_dict() for each in sent]).declarations() == sent


@pytest.mark.parametrize("fields", [{}, {"name": "chat", "more": 1}])
def test_what_makes_no_sense_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="declaration makes no sense"):
        Declared([fields]).declarations()
