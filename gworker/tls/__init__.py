"""TLS: sockets, handshakes, contexts, options, key files.

It owns everything that OpenSSL is asked. It must not know a connection or a protocol.
"""
