"""Live connections from one process to another.

It owns the link between two processes and what travels over it. It must not know the arbiter.
"""
