"""Memberships that move to another process: nothing is lost or doubled on the way."""
