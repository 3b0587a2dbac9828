"""See the scenarios: processes that share a broker, in one event loop."""

from __future__ import annotations

import scenarios

test_messages = scenarios.of("messages")
