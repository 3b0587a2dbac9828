"""WebSocket (RFC 6455, RFC 7692), both ends: bytes in, messages out.

It owns frames, handshake and compression. It must not know sockets, clocks or logs.
"""
