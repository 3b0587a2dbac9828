"""Where log lines go and how they look; the access log.

It owns the descriptors that are logged to. It must not know a process or a connection.
"""
