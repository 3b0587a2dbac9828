"""Answers to HTTP requests, and a WebSocket beside them."""

import time

from recording import outside, record

from gworker import Response, Worker

web = Worker("http://127.0.0.1:0", name="web", max_package_size=100_000, header_timeout=5)
sock = Worker("websocket://127.0.0.1:0", name="sock", max_package_size=100_000)


@web.on_connect
def connected(connection):
    record(connection, "connect")


@web.on_close
def closed(connection):
    record(connection, "close")


@web.on_message
def answer(connection, request):
    record(connection, request.method, request.target)
    path, query = request.path, request.query
    if path == "/slow":
        time.sleep(float(query.get("seconds", "0.1")))
        connection.send(request.query_string)
    elif path == "/later":
        outside(lambda: (time.sleep(0.1), connection.send("later " + request.query_string)))
    elif path == "/body":
        connection.send(request.body)
    elif path == "/who":
        connection.send(
            Response.json(
                {
                    "method": request.method,
                    "path": path,
                    "query": dict(query),
                    "version": request.version,
                    "host": request.headers.get("Host"),
                    "keep_alive": request.keep_alive,
                    "body": request.body.decode(),
                }
            )
        )
    elif path == "/raise":
        raise ZeroDivisionError("in a request")
    elif path == "/raise-after":
        connection.send("sent")
        raise ZeroDivisionError("after the answer")
    elif path == "/twice":
        connection.send("once")
        connection.send("twice")
    elif path == "/close":
        connection.close("last")
    elif path == "/wants-close":
        connection.send(Response("bye", headers={"Connection": "close"}))
    elif path == "/status":
        connection.send(Response(query.get("body", ""), int(query["code"])))
    elif path == "/big":
        connection.send(b"x" * int(query["size"]))
    elif path == "/hints":
        connection.send(Response(status=103, headers={"Link": "</a.css>"}))
        connection.send("final")
    elif path == "/bad":
        connection.send(object())
    else:
        connection.send(f"{request.method} {path}")


@sock.on_connect
def sock_connected(connection):
    record(connection, "connect", connection.request is None)
    connection.send("first of all")
    connection.send(b"and second")


@sock.on_websocket_connect
def handshake(connection, request):
    record(connection, "handshake", request.path)
    if request.path == "/refuse":
        connection.close()
    elif request.path == "/unauthorized":
        connection.close(Response("who are you?", 401, {"WWW-Authenticate": "Basic"}))
    elif request.path == "/headers":
        connection.headers = {"X-Mine": "yes", "Set-Cookie": "a=b"}
    elif request.path == "/bad-headers":
        connection.headers = {"Upgrade": "other"}
    elif request.path == "/raise":
        raise ZeroDivisionError("in on_websocket_connect")
    elif request.path == "/slow":
        time.sleep(0.3)
    elif request.path == "/send":
        connection.send("from the handshake")
    elif request.path == "/destroy":
        connection.destroy()


@sock.on_message
def message(connection, data):
    record(connection, "message", type(data).__name__, len(data))
    if data == "close":
        connection.close()
    elif data == "close-4000":
        connection.close("last words", code=4000, reason="because")
    elif data == "bad-code":
        connection.close(code=1005)
    elif data == "raise":
        raise ZeroDivisionError("in a message")
    elif data == "sleep":
        time.sleep(1)
        connection.send("slept")
    elif data == "request":
        connection.send(f"{connection.request.path} {connection.request.headers['Host']}")
    elif data == "object":
        connection.send(3)
    else:
        connection.send(data)


@sock.on_close
def sock_closed(connection):
    record(connection, "close")
