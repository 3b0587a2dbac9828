"""Sockets that are ready, and the greenlets that serve them."""
