"""Applications of other interfaces, which are refused by name."""

from __future__ import annotations

import places
import pytest
from loading import Load, fails

APPS = places.APPS


APPLICATIONS = (APPS / "applications.py").read_text()


@pytest.mark.parametrize(
    ("attribute", "what"),
    [
        ("wsgi", "a WSGI application (environ, start_response)"),
        ("other_names", "a WSGI application (environ, respond)"),
        ("one_more", "a WSGI application (env, start_response, settings)"),
        ("wrapped", "a WSGI application (environ, start_response)"),
        ("prepared", "a WSGI application (functools.partial)"),
        ("wsgi_app", "a WSGI application (environ, start_response)"),
        ("flask_app", "a WSGI application (flask.app.Flask)"),
        ("create_app()", "a WSGI application (flask.app.Flask)"),
        ("several", "a WSGI application (flask.app.Flask)"),
        ("Flask", "a WSGI application (flask.app.Flask)"),
        ("Shop", "a WSGI application (app.Shop)"),
        ("ByConstructor", "a WSGI application (app.ByConstructor)"),
        ("werkzeug_app", "a WSGI application (request)"),
        ("asgi", "an ASGI application (scope, receive, send)"),
        ("asgi_2", "an ASGI application (scope)"),
        ("starlette_app", "an ASGI application (starlette.applications.Starlette)"),
        ("tornado_app", "a Tornado application (tornado.web.Application)"),
        ("aiohttp_app", "an aiohttp application (aiohttp.web_app.Application)"),
        ("resource", "a gevent-websocket Resource (geventwebsocket.resource.Resource)"),
        ("Chat", "a gevent-websocket application (app.Chat)"),
    ],
)
def test_an_application_is_refused_by_name(load: Load, attribute: str, what: str) -> None:
    error = fails(load, APPLICATIONS, attribute)
    assert str(error) == f"app:{attribute} is {what}: gworker does not serve those yet"


def test_the_application_of_a_module_is_found_without_being_named(load: Load) -> None:
    assert str(fails(load, APPLICATIONS)).startswith(
        "app:app is a WSGI application (flask.app.Flask): "
    )
    source = "def view(request): ...\ndef application(environ, start_response): ...\n"
    assert str(fails(load, source)).startswith(
        "app:application is a WSGI application (environ, start_response): "
    )


def test_an_application_is_no_callback_either(load: Load) -> None:
    source = (
        APPLICATIONS
        + "from gworker import Worker\nw = Worker('http://127.0.0.1:1', on_message=flask_app)\n"
    )
    error = fails(load, source, "w")
    assert (
        "on_message of <Worker ? http://127.0.0.1:1> is a WSGI application (flask.app.Flask)"
        in str(error)
    )


def test_an_object_with_callbacks_is_served_whatever_else_it_is(load: Load) -> None:
    (worker,) = load(APPLICATIONS, "site")
    assert worker.callbacks.on_message is not None
