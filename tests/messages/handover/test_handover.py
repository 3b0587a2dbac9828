"""Members of groups that move from one process to another, and what they hear on the way."""

from __future__ import annotations

import scenarios

test_handover = scenarios.of("message_handover")
test_handover_with_the_core_in_python = scenarios.of("message_handover", GWORKER_PURE="1")
