"""What connections join, over a broker that is slow: each call ends in time, and those that come at
once see what the others have done."""

from __future__ import annotations

import scenarios

test_local = scenarios.of("message_deadlines", BROKER="local")
test_local_with_the_core_in_python = scenarios.of(
    "message_deadlines", BROKER="local", GWORKER_PURE="1"
)
test_redis = scenarios.of("message_deadlines", BROKER="redis")
test_redis_with_the_core_in_python = scenarios.of(
    "message_deadlines", BROKER="redis", GWORKER_PURE="1"
)
