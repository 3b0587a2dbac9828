"""Notifications to a user, whichever devices they have and whichever process holds them.

    gworker examples/messages/notifications.py -w 4
    websocat ws://127.0.0.1:9503/?user=ada              # twice: a phone and a laptop
    curl -d 'Your parcel is here' http://127.0.0.1:8003/notify/ada

The answer says how many processes were reached: 0 means that the user is offline, and
something else has to be done (an e-mail, say).
"""

import os

from gworker import Connection, Request, Response, Worker, messages

devices = Worker(os.environ.get("DEVICES", "ws://127.0.0.1:9503"), name="devices")
web = Worker(os.environ.get("WEB", "http://127.0.0.1:8003"), name="web")


@devices.on_websocket_connect
def connect(connection: Connection, request: Request) -> None:
    """A real service looks at a cookie or a token here."""
    user = request.query.get("user", "")
    if not user:
        connection.close(Response("who are you?\n", 403))
    else:
        connection.bind(user)


@web.on_message
def serve(connection: Connection, request: Request) -> None:
    """/notify/USER: POST sends the body to the user, DELETE logs the user out everywhere, GET tells
    whether they are there."""
    user = request.path.removeprefix("/notify/")
    if request.method == "POST":
        connection.send({"processes": messages.send_to_user(user, request.body.decode())})
    elif request.method == "DELETE":
        messages.close(user=user, code=4003, reason="logged out")
        connection.send({"logged_out": user})
    else:
        connection.send(
            {"online": messages.is_online(user), "devices": len(messages.connections(user))}
        )
