"""HTTP/1.0 and 1.1, the server's end: bytes in, requests out; answers in, bytes out.

It owns framing, limits and strictness. It must not know sockets, clocks or logs.
"""
