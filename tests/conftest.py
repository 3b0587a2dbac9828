"""For all tests."""

from __future__ import annotations

import signal

# A shell starts jobs in the background with SIGINT ignored; what the tests start would inherit that, and never hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)
