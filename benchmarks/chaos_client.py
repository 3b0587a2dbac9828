"""Clients of the chaos trial, in a process of their own: chaos_client.py KIND ADDRESS CONNECTIONS
FILE.

Each connection sends numbered messages, several at a time, and checks every answer: nothing out of
order, nothing lost, nothing twice. If it ends, the next one is opened. What was seen lies in FILE
as JSON, anew twice a second. ADDRESS is a port or the path of a unix socket.
"""

import json
import os
import socket
import sys
import threading
import time

HOST = "127.0.0.1"
BURST, PAUSE = 3, 0.15
PATIENCE = 15.0  # seconds for an answer: what hangs is replaced before
RETRY = 0.05
REPORT_SECONDS = 0.5


class Ended(Exception):
    """The server has closed the connection."""


class Wrong(Exception):
    """An answer that should not have come."""


class Talk:
    """One connection and its protocol."""

    def __init__(self, kind: str, address: str) -> None:
        self.kind = kind
        self.buffer = b""
        family = socket.AF_UNIX if address.startswith("/") else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect(address if address.startswith("/") else (HOST, int(address)))
            if kind == "ws":
                self.shake_hands()
        except BaseException:
            self.socket.close()
            raise

    def shake_hands(self) -> None:
        self.socket.sendall(
            b"GET / HTTP/1.1\r\nHost: chaos\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        head = self.until(b"\r\n\r\n")
        if b" 101 " not in head:
            raise Wrong(f"no handshake: {head[:60]!r}")

    def send(self, numbers: range) -> None:
        self.socket.sendall(b"".join(self.encode(str(number).encode()) for number in numbers))

    def encode(self, text: bytes) -> bytes:
        if self.kind == "ws":
            return (
                bytes((0x81, 0x80 | len(text))) + bytes(4) + text
            )  # the mask of zeros changes nothing
        if self.kind == "http":
            return b"GET /" + text + b" HTTP/1.1\r\nHost: chaos\r\n\r\n"
        return text + b"\n"

    def receive(self) -> str:
        if self.kind == "ws":
            first, length = self.exactly(2)
            payload = self.exactly(length)
            if first == 0x88:
                raise Ended
            return payload.decode()
        if self.kind == "http":
            head = self.until(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise Wrong(f"http: {head[:60]!r}")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
            return self.exactly(int(fields[b"content-length"])).decode()
        return self.until(b"\n").decode()

    def until(self, end: bytes) -> bytes:
        while end not in self.buffer:
            self.more()
        found, _, self.buffer = self.buffer.partition(end)
        return found

    def exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self.more()
        found, self.buffer = self.buffer[:size], self.buffer[size:]
        return found

    def more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise Ended
        self.buffer += data


class Client:
    """One loop of connections, one after the other."""

    def __init__(self, kind: str, address: str) -> None:
        self.kind, self.address = kind, address
        self.messages = self.ends = 0
        self.lost_at: float | None = time.monotonic()
        """Since when it is without service."""
        self.longest = 0.0
        self.wrong: list[str] = []

    def run(self) -> None:
        while True:
            try:
                talk = Talk(self.kind, self.address)
            except (OSError, Ended):
                time.sleep(RETRY)
                continue
            except Wrong as error:
                self.wrong.append(str(error))
                continue
            try:
                self.talk(talk)
            except (OSError, Ended):
                self.ends += 1
            except Exception as error:
                self.wrong.append(f"{type(error).__name__}: {error}")
            finally:
                self.lost_at = self.lost_at or time.monotonic()
                talk.socket.close()
            time.sleep(RETRY)

    def talk(self, talk: Talk) -> None:
        number = 0
        while True:
            numbers = range(number + 1, number + 1 + (BURST if talk.kind != "http" else 1))
            talk.send(numbers)
            for number in numbers:
                answer = talk.receive()
                if answer != f"{number} {number}":
                    raise Wrong(f"to message {number} came {answer!r}")
                self.messages += 1
                if self.lost_at is not None:
                    self.longest = max(self.longest, time.monotonic() - self.lost_at)
                    self.lost_at = None
            time.sleep(PAUSE)

    def report(self) -> dict[str, object]:
        lost = time.monotonic() - self.lost_at if self.lost_at is not None else 0.0
        return {
            "messages": self.messages,
            "ends": self.ends,
            "lost": lost,
            "longest": self.longest,
            "wrong": self.wrong,
        }


def main() -> None:
    kind, address, connections, file = sys.argv[1:]
    clients = [Client(kind, address) for _ in range(int(connections))]
    for client in clients:
        threading.Thread(target=client.run, daemon=True).start()
    parent = os.getppid()
    while os.getppid() == parent:
        with open(f"{file}.new", "w", encoding="utf-8") as new:
            json.dump([client.report() for client in clients], new)
        os.replace(f"{file}.new", file)
        time.sleep(REPORT_SECONDS)


if __name__ == "__main__":
    main()
