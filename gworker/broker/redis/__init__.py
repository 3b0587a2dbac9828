"""The broker on Redis (7.0 or later) or Valkey: a server, a Sentinel's master, or a cluster.

    broker         RedisBroker, which ties the parts together
    operations     what each operation is: names of keys, scripts
    script         the scripts, as a server gets them
    composite      operations that take several commands
    command        a command, from its submission to its answer
    commands       one server's link for commands
    nodes          the masters, and their links for commands
    routing        which of them gets a command, and what follows when it refuses
    subscriptions  which channels are wanted, where they are subscribed, what was lost
    messages       one server's link for messages
    lease          the lease of this process, and those of others that have run out
    topology       which server owns which partition, and how to connect to it
    partitions     which partition a channel belongs to
    check          what the servers of a URL are

Every operation is one script in one slot; scripts take the time from their server. Three threads
belong to the broker: they watch over links and topology, over deadlines, and over the lease. Links
have their own. All are greenlets where gevent has patched `threading`.
"""
