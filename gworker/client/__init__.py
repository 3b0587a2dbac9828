"""The dialling side, `gworker.connect`: URL, proxies, racing addresses, reconnecting.

It owns the way of a dialled socket until it is a connection. It must not know listeners.
"""
