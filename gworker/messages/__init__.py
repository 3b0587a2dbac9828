"""Messages between processes and machines: groups, users, presence, history.

It owns what one process knows of them, and the public calls. It knows a connection only as what
can be sent to.
"""
