"""What is said to and by proxies before a connection's own bytes: PROXY header, SOCKS 5, CONNECT.

It knows no sockets, clocks or logs.
"""
