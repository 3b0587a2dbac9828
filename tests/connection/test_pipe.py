"""`pipe`: ends that have closed before, buffers of any size, and connections with a handler."""

from __future__ import annotations

import scenarios

test_scenario = scenarios.of("pipe")
