"""`link` and `local`, with threads, and with gevent's greenlets in their place."""

from __future__ import annotations

from scenarios import Scenarios

test_with_threads = Scenarios("link", {"GEVENT": "0"}).test()
test_with_greenlets = Scenarios("link", {"GEVENT": "1"}).test()
