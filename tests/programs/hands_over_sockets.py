"""Starts a program with sockets, as systemd(1) does: NOTIFY_SOCKET PATH COMMAND..."""

import ctypes
import os
import socket
import sys

notify, path, *command = sys.argv[1:]
# PR_SET_CHILD_SUBREAPER: orphans become ours, as if we were PID 1
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
kinds = socket.SOCK_STREAM, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_STREAM
wheres = ("127.0.0.1", 0), path, ("127.0.0.1", 0), ("127.0.0.1", 0)
made = []
for kind, where in zip(kinds, wheres, strict=True):
    made.append(socket.socket(socket.AF_UNIX if where == path else socket.AF_INET, kind))
    made[-1].bind(where)
    if kind == socket.SOCK_STREAM:
        made[-1].listen(16)
# The copies are not among those that the next lines replace.
copies = [os.dup(each.fileno()) for each in made]
high = [os.dup2(copy, 100 + number) for number, copy in enumerate(copies)]
for number, copy in enumerate(high):
    os.dup2(copy, 3 + number, inheritable=True)
    os.close(copy)
os.environ |= {
    "LISTEN_PID": str(os.getpid()),
    "LISTEN_FDS": str(len(made)),
    "LISTEN_FDNAMES": "web:unknown:datagrams:nobody",
    "NOTIFY_SOCKET": notify,
    "WATCHDOG_USEC": "2000000",
    "WATCHDOG_PID": str(os.getpid()),
}
os.execv(command[0], command)
