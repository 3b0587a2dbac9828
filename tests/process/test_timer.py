"""Timers, in a process of their own: this one has no event loop and shall have none."""

from __future__ import annotations

import scenarios

test_scenario = scenarios.of("timers")
