"""The broker process of an instance: clients at a unix socket, and a `Store` behind it.

    server    BrokerServer: the epoll(7) loop, listeners, clients that come and go
    client    one link of a process: what it sends, what waits for it
    commands  what clients ask for: subscriptions, and the operations of the store

One thread: no gevent, no user code. In each turn it reads what the clients have sent, does their
commands in the order in which they came, and writes to each client once. So what is published is in
one order for all. Payloads are passed on and never looked into.
"""
