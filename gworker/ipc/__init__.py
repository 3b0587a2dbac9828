"""What the arbiter and a worker process share: channel, scoreboard, assignment, declaration.

It owns the messages between the two, and the memory that they share. It must not know either of
them.
"""
