"""Listening in a worker process: accept, PROXY header, TLS accept, UDP, socketserver.

It owns the way of a socket until it is a connection. It must not know the process that listens.
"""
