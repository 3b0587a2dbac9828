"""A JSON API: tasks that can be listed, added and deleted.

    gworker examples/http_api.py

Try `curl -d title=tea http://127.0.0.1:8000/tasks`, then `curl
http://127.0.0.1:8000/tasks?search=tea`.
"""

import itertools
import os

from gworker import Connection, Request, Response, Worker

api = Worker(
    os.environ.get("LISTEN", "http://127.0.0.1:8000"), name="api", count=1
)  # tasks live in one process
tasks: dict[int, str] = {}
numbers = itertools.count(1)


@api.on_message
def answer(connection: Connection, request: Request) -> None:
    try:
        response = route(request.method, request.path, request)
        response.set_cookie(
            "visits", str(int(request.cookies.get("visits", "0")) + 1), httponly=True
        )
    except (ValueError, KeyError, TypeError) as error:
        response = Response.json({"error": repr(error)}, 400)
    connection.send(response)


def route(method: str, path: str, request: Request) -> Response:
    """GET and POST /tasks, DELETE /tasks?number=1."""
    if path != "/tasks":
        return Response.json({"error": "not found"}, 404)
    if method == "POST":
        fields = request.json() if request.content_type == "application/json" else request.form
        tasks[number := next(numbers)] = str(fields["title"])
        return Response.json({number: tasks[number]}, 201)
    if method == "DELETE":
        return Response.json({"deleted": tasks.pop(int(request.query["number"]))})
    if method not in ("GET", "HEAD"):
        return Response.json({"error": f"{method} is not allowed"}, 405)
    return Response.json(
        {
            number: title
            for number, title in tasks.items()
            if request.query.get("search", "") in title
        }
    )
