"""Short connections one after the other, from a process of its own: `python load.py KIND HOST PORT
[THREADS]`.

KIND is `tcp` (send a line, read the echo, close) or `http` (one request with Connection: close). It
runs until stdin closes and then prints how it went as JSON: {"ok": N, "faults": {WHAT: HOW OFTEN},
"said": [answers]}.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections import Counter

REQUESTS = {"tcp": b"hello\n", "http": b"GET / HTTP/1.1\r\nHost: load\r\nConnection: close\r\n\r\n"}

running = True
counts: Counter[str] = Counter()
faults: Counter[str] = Counter()
said: set[str] = set()


def one(kind: str, address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(REQUESTS[kind])
        answer = b""
        while not (kind == "tcp" and answer.endswith(b"\n")):
            data = connection.recv(65536)
            if not data:
                break
            answer += data
    if kind == "http" and not answer.startswith(b"HTTP/1.1 200 "):
        raise ValueError(f"answer {answer[:40]!r}")
    if not answer:
        raise ValueError("no answer")
    said.add(answer.rpartition(b"\r\n\r\n")[2].strip().decode())


def loop(kind: str, address: tuple[str, int]) -> None:
    while running:
        try:
            one(kind, address)
            counts["ok"] += 1
        except (OSError, ValueError) as error:
            faults[f"{type(error).__name__}: {error}"] += 1
        time.sleep(0.002)  # leave some of the machine to the server


def main() -> None:
    kind, host, port, *rest = sys.argv[1:]
    threads = [
        threading.Thread(target=loop, args=(kind, (host, int(port))))
        for _ in range(int(rest[0]) if rest else 3)
    ]
    for thread in threads:
        thread.start()
    print("running", flush=True)
    sys.stdin.read()
    globals()["running"] = False
    for thread in threads:
        thread.join()
    print(json.dumps({"ok": counts["ok"], "faults": dict(faults), "said": sorted(said)}))


if __name__ == "__main__":
    main()
