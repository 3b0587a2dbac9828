"""HandoverSender and taker in one event loop, and what can go wrong between them."""

from __future__ import annotations

import scenarios

test_scenario = scenarios.of("handover")
