"""What the arbiter and a worker process share: channel, scoreboard, assignment, declaration.

It owns the words that the two say to each other. It must not know either of them.
"""
