"""Who comes to groups and leaves them, as all their processes hear it."""

from __future__ import annotations

import scenarios

test_presence = scenarios.of("presence")
test_presence_with_the_core_in_python = scenarios.of("presence", GWORKER_PURE="1")
