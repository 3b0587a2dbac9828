"""One connection: transport, dispatch of messages to callbacks, timeouts, HTTP exchange, pipe.

It owns a socket from its first byte to its close. It must not know listeners, the arbiter or how
the process that serves it ends.
"""
