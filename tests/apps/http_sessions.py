"""Sessions: counted, filled, emptied, sent later, and read by a WebSocket."""

import os

import gworker
from gworker import Timer, Worker
from gworker.http import Response

web = Worker("http://127.0.0.1:0", name="web")
ws = Worker("websocket://127.0.0.1:0", name="ws")


@web.on_message
def answer(connection, request):
    session = request.session
    path = request.path
    if path == "/plain":
        return dict(session)
    if path == "/clear":
        session.clear()
    elif path == "/large":
        session["text"] = os.urandom(4000).hex()
    elif path == "/wrong":
        session["what"] = object()
    elif path == "/nested":
        session.setdefault("list", []).append(1)
    elif path == "/later":
        session["later"] = True
        Timer.add(0.05, connection.send, ("later",), persistent=False)
        return None
    elif path == "/stream":
        session["streamed"] = True
        return Response.stream(iter([b"one"]))
    elif path == "/headers":
        session["n"] = 1
        return Response("x", headers={"Set-Cookie": "other=1"})
    else:
        session["n"] = session.get("n", 0) + 1
    return dict(session)


@ws.on_websocket_connect
def admit(connection, request):
    connection.context.n = request.session.get("n")


@ws.on_message
def say(connection, data):
    connection.send(f"{connection.context.n} {connection.request.session.get('n')}")


assert gworker.http.Session.max_age == 14 * 86400
