"""The parts of the arbiter: processes, slots, listeners, rollouts, control socket, upgrade.

It owns everything that outlives a worker process. It must not know gevent, threads or user code.
"""
