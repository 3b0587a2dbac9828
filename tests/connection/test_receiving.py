"""Connections that were held up: something always goes on with them, and a retirement, a deadline
or a timeout knows."""

from __future__ import annotations

import scenarios

test_scenario = scenarios.of("receiving")
