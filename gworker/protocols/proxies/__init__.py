"""What is said to and by proxies before a connection's own bytes: PROXY header, SOCKS 5, CONNECT.

It owns these dialogues. It must not know sockets, clocks or logs.
"""
