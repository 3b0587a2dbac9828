"""Long exchanges of HTTP over a connection: bodies that are read, and answers that are sent, piece
by piece.

The protocol's events (`protocols.http.streaming`) wait in the job like everything else, and are
worked off in the connection's own greenlet: so answers keep their order, a handler and its stream
never overlap with the next request, and a retiring process sees the connection as busy until it is
done.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from gworker.app.callbacks import check_call
from gworker.connection.body_reader import BodyReader
from gworker.connection.closing import undecided
from gworker.connection.dispatcher import AnyConnection, Handler, answer
from gworker.connection.events import CONTINUE_PARSING
from gworker.connection.http_protocol import http_protocol
from gworker.connection.response_sender import ResponseSender
from gworker.connection.state import ESTABLISHED
from gworker.http.body import StreamedRequest
from gworker.http.headers import HeaderSource
from gworker.http.request import OfferingRequest
from gworker.protocols.http.streaming import RequestStarted, ResponseStarted

if TYPE_CHECKING:
    from gworker.http.request import Request
    from gworker.protocols.http.protocol import HttpProtocol


def attach(connection: AnyConnection, event: RequestStarted) -> Request:
    """The request of `event`, able to read its body. Its files are closed when it is answered."""
    request, protocol = event.request, http_protocol(connection)
    if isinstance(request, StreamedRequest):
        request.attach(BodyReader(connection).more)
    elif isinstance(request, OfferingRequest):
        request.attach(partial(_upgrade, connection, protocol))
    if protocol.exchange is not None:
        protocol.exchange.ended = request.close
    connection.server_context.requests += 1
    return request


def _serve(connection: AnyConnection, event: RequestStarted) -> None:
    if connection.lifecycle is not ESTABLISHED:
        return
    request, callback = attach(connection, event), connection.callbacks.on_message
    interceptor = connection.server_context.message_interceptor
    protocol = http_protocol(connection)
    transfer = protocol.exchange
    if transfer is not None:
        transfer.ended = None  # while the handler runs it may use the files, also after its answer
    try:
        if callback is not None:
            if interceptor is None:
                value = callback(connection, request)
            else:
                value = interceptor(callback, connection, request)
            if value is not None:
                answer(connection, callback, value)
    except BaseException:
        connection.handler_failed("on_message")
    if transfer is not None and protocol.exchange is transfer:
        transfer.ended = request.close  # it is answered later
    else:
        request.close()


HTTP_HANDLERS: dict[type, Handler] = {
    RequestStarted: _serve,
    ResponseStarted: lambda connection, event: ResponseSender(connection, event.body).run(),
}


def _upgrade(
    connection: AnyConnection,
    protocol: HttpProtocol,
    request: Request,
    headers: HeaderSource,
    callbacks: dict[str, Any],
) -> None:
    # A request has offered to switch protocols. That may be taken up after its handler, too.
    for name, function in callbacks.items():
        check_call(name, function, connection)
    socket = protocol.upgrade(request, headers)
    connection.protocol_machine = socket
    connection.request = request
    for name, function in callbacks.items():
        connection.set_callback(name, function)
    if connection.observer is not None:
        connection.observer.switched(socket)
    connection.write_output()
    job = connection.event_job
    if job is None or not job.is_current:
        connection.post(CONTINUE_PARSING)


def decide(connection: AnyConnection, request: Request) -> bool:
    """Have on_websocket_connect decide about a handshake, as at a WebSocket Worker. False: it has
    returned False, so that this is a request like any other. Raises BadRequest for what is no
    handshake. In the connection's job."""
    protocol, callback = http_protocol(connection), connection.callbacks.on_websocket_connect
    connection.protocol_machine = socket = protocol.offer(request)
    connection.request = request
    undecided.add(connection)
    try:
        is_declined = callback is not None and callback(connection, request) is False
        headers, connection.headers = connection.headers, None
        if connection.lifecycle is ESTABLISHED:
            if is_declined:
                connection.protocol_machine, connection.request = protocol, None
                return False
            socket.accept_handshake(headers or ())
    finally:
        undecided.discard(connection)
    protocol.leave_to(socket)
    if connection.lifecycle is ESTABLISHED:
        if connection.observer is not None:
            connection.observer.switched(socket)
        connection.write_output()
    return True
