"""Options and settings: the table of options, their parsers, and where values come from.

It owns the frozen `Settings`. It must not know a Worker, a process or a connection.
"""
