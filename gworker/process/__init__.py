"""The life of a worker process: boot, serve, drain; timers, threads, stack dumps.

It owns what one process of one Worker is. It must not know the arbiter.
"""
