"""One socket to a server that speaks RESP: pipelined calls, pushes, deadlines, reconnecting.

link    Link, which ties the parts together: it connects, reads, and looks at the deadlines
calls   what was sent and has no reply yet
output  what waits to be written
"""
