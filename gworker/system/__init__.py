"""The operating system: addresses, unix sockets, socket options, users, pid files, daemons.

It owns what man pages describe. It must not know anything else of gworker but its errors.
"""
