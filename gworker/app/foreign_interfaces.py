"""Applications of other interfaces, told from handlers by their signature or class.

Nothing is imported for that: classes are known by their names.
"""

from __future__ import annotations

import inspect

from gworker.app import signatures

WSGI, ASGI = "a WSGI application", "an ASGI application"

# Those whose signature does not tell, or would be taken for a handler's; classes that inherit from
# them as well.
CLASSES = {
    "aiohttp.web_app.Application": "an aiohttp application",
    "falcon.app.App": WSGI,
    "falcon.asgi.app.App": ASGI,
    "flask.app.Flask": WSGI,
    "geventwebsocket.resource.Resource": WSGI,
    "geventwebsocket.resource.WebSocketApplication": "a gevent-websocket application",
    "tornado.web.Application": "a Tornado application",
}

# Packages whose decorators make an application of a function, by the module that their code is in.
MAKERS = {"werkzeug": WSGI}

# What other servers serve without being told, in their order.
USUAL_NAMES = ("application", "app")

SERVER = "gevent.pywsgi.WSGIServer"  # gevent-websocket's WebSocketServer inherits from it


def interface(thing: object, has_callbacks: bool = False) -> str | None:
    """WSGI, ASGI or another one of `CLASSES`, if it is certain that `thing` has that, or is a class
    whose instances have it; None: it may be a handler.

    has_callbacks: it is an object that gworker could serve. How it can be called says nothing then.
    """
    return _by_class(thing) or (None if has_callbacks else _by_signature(thing))


def refusal(thing: object, has_callbacks: bool = False) -> str | None:
    """Why an application cannot be served as a handler, as in `is an ASGI application
    (starlette.applications.Starlette): …`; None if it is none. See `interface`."""
    found = interface(thing, has_callbacks)
    if found is None:
        return None
    what = f"is {found} ({described(thing)})"
    if found == WSGI:
        return f"{what}: serve it by Worker(…, wsgi=application)"
    if found == ASGI:
        return f"{what}: gworker serves WSGI applications, and ASGI ones need a server of asyncio"
    return f"{what}: gworker does not serve those"


def wsgi_refusal(thing: object) -> str | None:
    """Why `thing` cannot be a WSGI application; None if it may be one."""
    found = interface(thing)
    if found is not None and found != WSGI:
        return refusal(thing)
    if inspect.isclass(thing) and not _is_application_class(thing):
        return f"is the class {_name(thing)}, no application: give an instance of it"
    if not callable(thing):
        return f"is {thing!r} of type {type(thing).__name__}, which cannot be called"
    if signatures.is_async(thing):
        return f"is the async function {signatures.shown(thing)}, and WSGI applications are none"
    if not signatures.accepts(thing, 2):
        hint = "; is it a factory? Call it: NAME()" if signatures.accepts(thing, 0) else ""
        return f"is {signatures.shown(thing)}; expected (environ, start_response){hint}"
    return None


def is_application(thing: object, name: str = "") -> bool:
    """Whether a callable that may be a handler as well is taken for a WSGI application.

    name: of the variable that holds it. `application` and `app` are the names of applications,
    unless the parameters are those of a handler. Flask's have an attribute `wsgi_app`.
    """
    if not callable(thing) or inspect.isclass(thing):
        return False
    if hasattr(thing, "wsgi_app"):
        return True
    return (
        name in USUAL_NAMES
        and signatures.names(thing)[:1] != ["connection"]
        and signatures.wanted(thing) in (2, None)
        and signatures.accepts(thing, 2)
    )


def is_undecided(thing: object) -> bool:
    """True if nothing tells an application from a handler: a callable that takes anything."""
    return callable(thing) and not inspect.isclass(thing) and signatures.takes_anything(thing)


def is_wsgi_server(thing: object) -> bool:
    """True for an instance of gevent's WSGIServer, or of a class that inherits from it."""
    return any(_name(base) == SERVER for base in type(thing).__mro__)


def _is_application_class(cls: type) -> bool:
    # PEP 3333: a class may be the application, whose instances are then the results.
    return _of_names(signatures.names(cls)) == WSGI


def _by_class(thing: object) -> str | None:
    bases = thing.__mro__ if inspect.isclass(thing) else type(thing).__mro__
    return next((CLASSES[name] for base in bases if (name := _name(base)) in CLASSES), None)


def _by_signature(thing: object) -> str | None:
    if not callable(thing):
        return None
    module = str(getattr(thing, "__globals__", {}).get("__name__"))
    if (package := module.partition(".")[0]) in MAKERS:
        return MAKERS[package]
    found = _of_names(signatures.names(thing))
    call: object = inspect.getattr_static(thing, "__call__") if inspect.isclass(thing) else None
    if found is None and inspect.isfunction(call):
        found = _of_names(signatures.names(call)[1:])
    return found


def _of_names(names: list[str]) -> str | None:
    # PEP 3333: (environ, start_response). ASGI 3: (scope, receive, send); ASGI 2: (scope).
    bare = [name.strip("_") for name in names]
    if bare[1:2] == ["start_response"] or (len(bare) == 2 and bare[0] == "environ"):
        return WSGI
    if bare in (["scope"], ["scope", "receive", "send"]):
        return ASGI
    return None


def described(thing: object) -> str:
    """`thing` in a few words: the parameters of a function, the class of another object."""
    if inspect.isclass(thing):
        return _name(thing)
    if inspect.isroutine(thing):
        return ", ".join(signatures.names(thing)) or _name(thing)
    return _name(type(thing))


def _name(thing: object) -> str:
    return f"{thing.__module__}.{getattr(thing, '__qualname__', '')}"
