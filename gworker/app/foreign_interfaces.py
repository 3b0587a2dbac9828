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
    "geventwebsocket.resource.Resource": "a gevent-websocket Resource",
    "geventwebsocket.resource.WebSocketApplication": "a gevent-websocket application",
    "tornado.web.Application": "a Tornado application",
}

# Packages whose decorators make an application of a function, by the module that their code is in.
MAKERS = {"werkzeug": WSGI}


def refusal(thing: object, has_callbacks: bool = False) -> str | None:
    """`is a WSGI application (flask.app.Flask): …`, if `thing` is one, or the class of one; None if
    it is none.

    has_callbacks: it is an object that gworker could serve. How it can be called says nothing then.
    """
    found = _by_class(thing) or (None if has_callbacks else _by_signature(thing))
    return (
        None
        if found is None
        else f"is {found} ({_described(thing)}): gworker does not serve those yet"
    )


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


def _described(thing: object) -> str:
    if inspect.isclass(thing):
        return _name(thing)
    if inspect.isroutine(thing):
        return ", ".join(signatures.names(thing)) or _name(thing)
    return _name(type(thing))


def _name(thing: object) -> str:
    return f"{thing.__module__}.{getattr(thing, '__qualname__', '')}"
