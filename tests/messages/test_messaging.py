"""Processes that share a broker, in one event loop."""

from __future__ import annotations

import scenarios

test_messages = scenarios.of("messages")
test_messages_with_the_core_in_python = scenarios.of("messages", GWORKER_PURE="1")
