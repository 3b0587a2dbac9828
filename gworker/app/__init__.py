"""What users declare: the Worker, its options and callbacks; and how a target is loaded.

It owns everything that user code may say before a process serves. It must not know a connection or
a process.
"""
