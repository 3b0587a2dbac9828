"""Where messages between processes go: one interface, and the brokers behind it.

It owns channels, subscriptions, and what a broker stores. It must not know connections, protocols
of peers, gevent or user code.
"""
