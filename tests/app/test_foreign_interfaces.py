"""Applications of other interfaces: those of WSGI are served, the others refused by name."""

from __future__ import annotations

import places
import pytest
from loading import Load, fails

APPS = places.APPS


APPLICATIONS = (APPS / "applications.py").read_text()


ASGI = "gworker serves WSGI applications, and ASGI ones need a server of asyncio"
NOT_THOSE = "gworker does not serve those"


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
        ("ByConstructor", "a WSGI application (app.ByConstructor)"),
        ("werkzeug_app", "a WSGI application (request)"),
        ("resource", "a WSGI application (geventwebsocket.resource.Resource)"),
        ("with_attribute", "a WSGI application (flask.Odd)"),
        ("short_names.application", "a WSGI application (e, s)"),
        ("short_names.app", "a WSGI application (app.<lambda>)"),
    ],
)
def test_an_application_is_served_over_http(load: Load, attribute: str, what: str) -> None:
    (worker,) = load(APPLICATIONS, attribute)
    declared = worker.declaration()
    assert declared.serves == what
    assert (declared.listen, worker.callbacks.on_message) == ("http://127.0.0.1:8000", None)


@pytest.mark.parametrize(
    ("attribute", "what"),
    [
        ("Flask", "the class flask.app.Flask, no application: give an instance of it"),
        ("Shop", "the class app.Shop, no application: give an instance of it"),
        ("asgi", f"an ASGI application (scope, receive, send): {ASGI}"),
        ("asgi_2", f"an ASGI application (scope): {ASGI}"),
        ("starlette_app", f"an ASGI application (starlette.applications.Starlette): {ASGI}"),
        ("tornado_app", f"a Tornado application (tornado.web.Application): {NOT_THOSE}"),
        ("aiohttp_app", f"an aiohttp application (aiohttp.web_app.Application): {NOT_THOSE}"),
        ("Chat", f"a gevent-websocket application (app.Chat): {NOT_THOSE}"),
    ],
)
def test_another_interface_is_refused_by_name(load: Load, attribute: str, what: str) -> None:
    assert str(fails(load, APPLICATIONS, attribute)) == f"app:{attribute} is {what}"


def test_applications_have_no_processes_of_their_own_in_a_list(load: Load) -> None:
    error = fails(load, APPLICATIONS, "several")
    assert "of type Flask, expected Workers only" in str(error)


def test_the_application_of_a_module_is_found_without_being_named(load: Load) -> None:
    (worker,) = load(APPLICATIONS)
    assert (worker.name, worker.declaration().serves) == (
        "app",
        "a WSGI application (flask.app.Flask)",
    )
    source = "def app(e, s): ...\ndef application(environ, start_response): ...\n"
    (worker,) = load(source)
    assert worker.name == "application"
    (worker,) = load("def application(connection, data): ...\ndef app(e, s): ...\n")
    assert worker.name == "app"


def test_a_function_of_two_arguments_is_a_handler_unless_its_name_or_app_says_otherwise(
    load: Load,
) -> None:
    source = "def view(a, b): ...\ndef app(connection, data): ...\ndef application(a, b): ...\n"
    for attribute in ("view", "app"):
        (worker,) = load(source, attribute)
        assert worker.wsgi is None
        assert worker.callbacks.on_message is not None
    (worker,) = load(source, "view", app="wsgi")
    assert worker.wsgi is not None
    (worker,) = load(source, "application", app="handler")
    assert worker.callbacks.on_message is not None


def test_what_takes_anything_needs_to_be_told(load: Load) -> None:
    source = "def anything(*arguments, **named): ...\n"
    assert "say --app wsgi or --app handler" in str(fails(load, source, "anything"))
    assert load(source, "anything", app="wsgi")[0].wsgi is not None
    assert load(source, "anything", app="handler")[0].callbacks.on_message is not None


def test_what_app_says_has_to_be_possible(load: Load) -> None:
    source = "def create(): ...\nasync def view(environ, start_response): ...\n"
    assert "is it a factory? Call it: NAME()" in str(fails(load, source, "create", app="wsgi"))
    assert "is the async function view" in str(fails(load, source, "view", app="wsgi"))


PYWSGI = """
from gevent.pywsgi import WSGIServer
def shop(environ, start_response): ...
class Server(WSGIServer): ...
at_all = WSGIServer(":8001", shop)
at_one = Server(("::1", 8002), shop)
over_tls = WSGIServer(("127.0.0.1", 8003), shop, certfile="c.pem", keyfile="k.pem")
application = at_one
"""


@pytest.mark.parametrize(
    ("attribute", "listen"),
    [
        ("at_all", "http://0.0.0.0:8001"),
        ("at_one", "http://[::1]:8002"),
        ("over_tls", "https://127.0.0.1:8003"),
        ("", "http://[::1]:8002"),
    ],
)
def test_a_server_of_gevent_gives_its_application_and_its_address(
    load: Load, attribute: str, listen: str
) -> None:
    (worker,) = load(PYWSGI, attribute)
    assert worker.declaration().listen == listen
    assert worker.wsgi.__name__ == "shop"
    assert (worker.options.get("tls") is None) == (not listen.startswith("https"))
    (worker,) = load(PYWSGI, attribute, bind=["http://127.0.0.1:9"])
    assert worker.listen_url == "http://127.0.0.1:9"


def test_an_application_is_no_callback(load: Load) -> None:
    worker = "from gworker import Worker\nw = Worker('http://127.0.0.1:1', "
    error = fails(load, f"{APPLICATIONS}\n{worker}on_message=flask_app)\n", "w")
    assert (
        "on_message of <Worker ? http://127.0.0.1:1> is a WSGI application (flask.app.Flask): "
        "serve it by Worker(…, wsgi=application)" in str(error)
    )
    (made,) = load(f"{APPLICATIONS}\n{worker}wsgi=flask_app)\n", "w")
    assert made.declaration().serves == "a WSGI application (flask.app.Flask)"
    error = fails(load, f"{APPLICATIONS}\n{worker}wsgi=asgi)\n", "w")
    assert "wsgi of <Worker ? http://127.0.0.1:1> is an ASGI application" in str(error)
    error = fails(load, f"{APPLICATIONS}\n{worker}wsgi=flask_app, handler=asgi_2)\n", "w")
    assert "an ASGI application" in str(error)
    error = fails(load, f"{APPLICATIONS}\n{worker}wsgi=flask_app, handler=len)\n", "w")
    assert "either a WSGI application or a connection handler, not both" in str(error)


def test_an_object_with_callbacks_is_served_whatever_else_it_is(load: Load) -> None:
    (worker,) = load(APPLICATIONS, "site")
    assert worker.callbacks.on_message is not None
