"""Large messages, pauses and pipes, as the peer asks for them."""

import os
import time

from recording import outside, record

from gworker import ErrorCode, PackageProtocol, ProtocolError, Worker

MB = 1 << 20

text = Worker("text://127.0.0.1:0", name="text")
tcp = Worker("tcp://127.0.0.1:0", name="tcp")
frame = Worker("frame://127.0.0.1:0", name="frame")


class Sized(PackageProtocol):
    def package_length(self, buffer):
        if buffer[:1] == b"!":
            raise ProtocolError("an exclamation mark")
        if buffer[:3] == b"000":
            return 0
        if buffer[:1] == b"/":
            return 1 // 0
        return int(buffer[:3]) if len(buffer) >= 3 else None

    def decode(self, package):
        if package[3:4] == b"/":
            return 1 // 0
        return package[3:]

    def encode(self, message):
        return b"%03d%b" % (len(message) + 3, message)


sized = Worker("tcp://127.0.0.1:0", name="sized", protocol=Sized, max_package_size=500)


def on_error(connection, code, message):
    assert code is ErrorCode.SEND_FAIL
    record(connection, "error", code.name, message)


def on_message(connection, line):
    word, _, rest = line.partition(" ")
    if word == "big":
        began = time.monotonic()
        sent = connection.send("x" * int(rest))
        record(connection, "send", sent, "at once" if time.monotonic() - began < 5 else "late")
    elif word == "queue":
        record(connection, "queue", connection.send_queue)
    elif word == "more":
        record(connection, "more", connection.send("more"))
    elif word == "big-bytearray":
        data = bytearray(b"a" * int(rest))
        connection.send(data, raw=True)
        data[:] = b"b" * len(data)
    elif word == "drain":
        began = time.monotonic()
        drained = connection.drain(float(rest) if rest else None)
        record(connection, "drained", drained, connection.send_queue)
    elif word == "close":
        connection.close("bye")
        record(connection, connection.status)
    elif word == "interleave":

        def sender(letter):
            for _ in range(40):
                connection.send(letter * 20_000)
                time.sleep(0)

        for letter in "abcdefgh":
            outside(sender, letter)
    elif word == "refused-twice":

        def slowly(connection, code, message):
            record(connection, "begin error")
            time.sleep(0.3)
            record(connection, "end error")

        connection.on_error = slowly
        outside(lambda: (time.sleep(0.1), connection.send("a"), connection.send("b")))
    elif word == "pause":
        connection.pause_recv()
        record(connection, "paused")
        outside(
            lambda: (
                time.sleep(float(rest)),
                record(connection, "resuming"),
                connection.resume_recv(),
            )
        )
    elif word == "pause-and-sleep":
        connection.pause_recv()
        time.sleep(0.1)
        record(connection, "paused")
        outside(lambda: (time.sleep(0.3), record(connection, "resuming"), connection.resume_recv()))
    elif word == "bound":
        connection.max_send_buffer_size = int(rest)
    else:
        record(connection, "message", line)
        connection.send("? " + line)


def status(word):
    return lambda connection: record(connection, word)


def held(connection, data):
    # Block until the file "go" is there; answer the last message with the size of all.
    connection.context.size = getattr(connection.context, "size", 0) + len(data)
    while not hasattr(connection.context, "go"):
        time.sleep(0.05)
        if os.path.exists("go"):
            connection.context.go = True
    if data[-3:] in (b"END", "END"):
        connection.send(str(connection.context.size) + end(connection))


def end(connection):
    return "" if connection.protocol == "text" else "\n"


waiting = []


def first(connection, data):
    # The first message says what the connection is for.
    word, _, rest = (data if isinstance(data, str) else data.decode()).strip().partition(" ")
    if word == "hold":
        connection.on_message = held
        connection.send("holding" + end(connection))
    elif word == "limit":
        connection.max_package_size = int(rest)
        connection.on_message = lambda connection, data: connection.send(data)
        connection.send("limited" + end(connection))
    elif word == "destination":
        connection.max_send_buffer_size = int(rest)
        connection.on_message = lambda connection, data: None
        waiting.append(connection)
        connection.send("ready" + end(connection))
    elif word == "source":
        connection.send("piped" + end(connection))
        connection.pipe(waiting.pop())
    else:
        on_message(connection, data)


def recorder(word):
    return lambda connection: record(connection, word)


for each in (text, tcp, frame):
    each.on_message = first
text.on_error = on_error
text.on_buffer_full = recorder("full")
text.on_buffer_drain = recorder("drain")
sized.on_message = lambda connection, data: connection.send(data)
for each in (text, tcp, frame, sized):
    each.on_close = recorder("close")
