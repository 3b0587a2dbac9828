"""What a broker stores, and its operations: pure machines, without I/O.

    store         Store, which ties the parts together
    messages      what is published, histories and positions
    history       what one channel has stored
    presence      members, leases and leaves
    values        shared data
    declarations  what patterns of channels mean
    deadlines     what ends when
    arguments     numbers on the wire

Each operation gets its arguments as bytes, and numbers as decimal text, as they come over the wire.
A time to live is in milliseconds, and 0 means none. An operation that cannot be done raises
BrokerError, and an argument that should be a number and is none ValueError.
"""
