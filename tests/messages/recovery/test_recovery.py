"""What members and processes missed, over several processes of one broker."""

from __future__ import annotations

import scenarios

test_recovery = scenarios.of("recovery")
test_any_order = scenarios.of("recovery_model")
test_recovery_with_the_core_in_python = scenarios.of("recovery", GWORKER_PURE="1")
