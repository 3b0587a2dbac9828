"""Dialled connections that are closed, and dialled again, within their own callbacks."""

from __future__ import annotations

import scenarios

test_scenario = scenarios.of("reopening")
