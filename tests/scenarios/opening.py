"""Protocols of dialled connections that shake hands, and what fails before a connection is open."""

from __future__ import annotations

from one_loop import Server, run, story, until

from gworker import ErrorCode
from gworker.http import BadRequest, Response
from gworker.protocols import MORE, Opened
from gworker.protocols.text import TextProtocol


class Greeted(TextProtocol):
    """The first line is the server's handshake. To send "wrong" raises."""

    is_open = False

    def waiting_for(self):
        return "" if self.is_open else "handshake"

    def next_event(self):
        event = super().next_event()
        if self.is_open or not isinstance(event, str):
            return event
        self.is_open = True
        return Opened(Response())

    def encode(self, message):
        if message == "wrong":
            raise LookupError(message)
        return super().encode(message)


class SlowlyGreeted(Greeted):
    """Lets others have their turn before it looks at the handshake."""

    has_looked = False

    def next_event(self):
        if self._buffer and not self.has_looked:
            self.has_looked = True
            return MORE
        return super().next_event()


def test_a_handshake_that_takes_several_turns():
    server = Server()
    connection, told = story(server.url, protocol=SlowlyGreeted, timeout=2)
    peer = server.accept()
    peer.send(b"welcome\nhello\n")
    until(lambda: len(told) == 2)
    assert told == ["connect", "hello"], told
    assert connection.status == "established"


def test_what_is_raised_while_it_opens_is_the_reason_whatever_follows():
    server = Server()
    connection, told = story(server.url, protocol=Greeted)
    connection.send("wrong")
    peer = server.accept()
    peer.send(b"welcome\n\xff\n")
    until(lambda: "close" in told)
    assert [code for code, _ in told[:-1]] == [ErrorCode.CONNECT_FAIL], told
    assert told[0][1].endswith("LookupError: wrong"), told


def test_a_refusal_of_a_request_is_no_other_exception_before_it_is_open():
    def refuse(_):
        raise BadRequest("no request is here")

    server = Server()
    connection, told = story(server.url, on_buffer_full=refuse, max_send_buffer_size=1)
    connection.send("x")
    until(lambda: "close" in told)
    assert [code for code, _ in told[:-1]] == [ErrorCode.CONNECT_FAIL], told
    assert told[0][1].endswith("BadRequest: no request is here"), told


run(globals())
