"""Runs a broker process. Arguments: the descriptor of its listener, and the lease in seconds."""

from __future__ import annotations

import logging
import socket
import sys

from gworker.broker.server.server import BrokerServer

logging.basicConfig(format="%(message)s", level=logging.INFO)
BrokerServer(socket.socket(fileno=int(sys.argv[1])), float(sys.argv[2])).run()
