"""Connections with a handler that does what its peer asks for."""

import time

from recording import outside, record

from gworker import Worker

session = Worker("text://127.0.0.1:0", name="session")
sock = Worker("websocket://127.0.0.1:0", name="sock")
frame = Worker("frame://127.0.0.1:0", name="frame")


@session.handler
def serve(connection):
    record(connection, "begin")
    for line in connection:
        word, _, rest = line.partition(" ")
        if word == "return":
            return
        if word == "raise":
            raise ZeroDivisionError("in the handler")
        if word == "close":
            connection.close("bye")
            record(connection, "after close", connection.recv())
        elif word == "timeout":
            try:
                connection.recv(timeout=float(rest))
            except TimeoutError as error:
                connection.send(f"TimeoutError {error}")
        elif word == "timeout-escapes":
            connection.recv(timeout=0.05)
        elif word == "recv":
            connection.send(f"{connection.recv()} and {connection.recv(timeout=30)}")
        elif word == "last":
            for _ in connection:
                pass
            record(connection, "end", connection.recv(), connection.recv())
            connection.send("goodbye")
        elif word == "sleep":
            time.sleep(float(rest))
            connection.send("slept")
        elif word == "elsewhere":

            def elsewhere():
                try:
                    connection.recv()
                except RuntimeError as error:
                    connection.send(f"RuntimeError {error}")

            outside(elsewhere)
        elif word == "spin":
            # The loop stands still: at its next turn the message and the timeout are both due.
            record(connection, "spin")
            outside(spin)
            try:
                result = connection.recv(timeout=0.05)
            except TimeoutError:
                result = "TimeoutError"
            began = time.monotonic()
            time.sleep(0.3)
            connection.send(f"{result in ('TimeoutError', 'x')} {time.monotonic() - began > 0.25}")
        else:
            connection.send("? " + line)
    record(connection, "done")


def spin():
    time.sleep(0.01)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        pass


@session.on_connect
def connected(connection):
    record(connection, "connect")


@session.on_close
def closed(connection):
    record(connection, "close")


@sock.handler
def tick(connection):
    connection.send("one")
    time.sleep(0.1)
    connection.send("two")
    time.sleep(0.1)
    connection.send("three")


@frame.handler
def sizes(connection):
    for message in connection:
        connection.send(str(len(message)))
