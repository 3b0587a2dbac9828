"""Applications of other interfaces, as they are written and as frameworks make them; none of these
is installed."""

import functools
import sys
import types


def like(module, name, *bases, **members):
    """A class as a framework defines it."""
    sys.modules.setdefault(module, types.ModuleType(module))
    return type(name, bases, {"__module__": module, **members})


def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [b""]


def other_names(environ, respond): ...
def one_more(env, start_response, settings=None): ...


async def asgi(scope, receive, send): ...


def asgi_2(scope): ...


def middleware(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return function(*arguments)

    return wrapper


wrapped = middleware(wsgi)
prepared = functools.partial(lambda settings, environ, start_response: [], {})

Flask = like("flask.app", "Flask", __call__=lambda self, environ, start_response: [])
flask_app = Flask()
wsgi_app = flask_app.__call__


class Shop(Flask): ...


async def call(self, scope, receive, send): ...


Starlette = like(
    "starlette.applications", "Starlette", __call__=call, on_event=lambda self, name: None
)
starlette_app = Starlette()

Tornado = like("tornado.web", "Application", __call__=lambda self, request: None)
tornado_app = Tornado()

aiohttp_app = like("aiohttp.web_app", "Application", on_startup=[], on_cleanup=[])()

Resource = like(
    "geventwebsocket.resource", "Resource", __call__=lambda self, environ, start_response: []
)
resource = Resource()
WebSocketApplication = like(
    "geventwebsocket.resource", "WebSocketApplication", on_message=lambda self, message: None
)


class Chat(WebSocketApplication):
    def on_open(self): ...


werkzeug = {"__name__": "werkzeug.wrappers.request"}
exec("def made(*arguments): ...", werkzeug)
werkzeug_app = functools.update_wrapper(werkzeug["made"], lambda request: None)


with_attribute = like("flask", "Odd", __call__=lambda self, c, d: [], wsgi_app=None)()
short_names = types.SimpleNamespace(application=lambda e, s: [], app=lambda *arguments: [])


class ByConstructor:
    def __init__(self, environ, start_response): ...
    def __iter__(self): ...


class Site:
    """A namespace, whatever else it may be."""

    def __call__(self, environ, start_response): ...
    def on_message(self, connection, data): ...


site = Site()


def create_app():
    return Flask()


several = [flask_app]
app = flask_app
