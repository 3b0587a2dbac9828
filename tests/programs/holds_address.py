"""Holds an address, and so does a fork of it that nothing names: FAMILY KIND PATH."""

import os
import socket
import sys
import time

holder = socket.socket(getattr(socket, sys.argv[1]), getattr(socket, sys.argv[2]))
holder.bind(("127.0.0.1", 0) if sys.argv[1] == "AF_INET" else sys.argv[3].replace("@", chr(0)))
if sys.argv[2] == "SOCK_STREAM":
    holder.listen()
if os.fork() == 0:  # this one has inherited it, and is not named
    time.sleep(60)
print(holder.getsockname()[1] if sys.argv[1] == "AF_INET" else 0, flush=True)
time.sleep(60)
