"""Hosting WSGI applications (PEP 3333).

It turns a request into an environ, and what the application returns into an answer. The requests
come from the callbacks of a Worker's connections, bodies and answers go through the exchange of
HTTP: it knows no sockets, and a Worker without an application loads none of it.
"""
