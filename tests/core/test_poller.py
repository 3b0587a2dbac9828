"""Sockets that are ready, and the greenlets that serve them."""

from __future__ import annotations

import scenarios

test_scenario = scenarios.of("poller")
test_scenario_in_python = scenarios.of("poller", GWORKER_PURE="1")
