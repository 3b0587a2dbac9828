"""A connection joins the group that its first line names, and is told so; the rest is published
there."""

from gworker import Worker, messages

messages.declare("kept:*", mode="recoverable")

rooms = Worker("text://127.0.0.1:0", name="rooms")


@rooms.on_message
def receive(connection, line):
    if connection.groups:
        messages.publish(connection.groups[0], line)
    else:
        connection.join(line)
        connection.send(f"in {line}")
