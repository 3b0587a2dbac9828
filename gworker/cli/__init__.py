"""What is typed in a terminal: commands, their tables, and how a server is started.

It owns the command line and what commands print. It is the only package that knows both the arbiter
and the worker processes; nothing imports it.
"""
