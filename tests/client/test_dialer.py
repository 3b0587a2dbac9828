"""Dialled connections in one event loop with their servers: every order of events, and what is left
behind."""

from __future__ import annotations

import scenarios

test_scenario = scenarios.of("dialer")
