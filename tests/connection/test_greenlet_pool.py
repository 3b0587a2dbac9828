"""The pool of greenlets, in a process of its own because it needs a hub."""

from __future__ import annotations

import scenarios

test_scenario = scenarios.of("greenlet_pool")
