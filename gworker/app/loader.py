"""Turning a TARGET into Workers: the one place that imports user code.

It runs in child processes only, after the fork and after monkey-patching. A LoadError says what was
looked for and where, and carries the traceback of the user's own code if some of it ran.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from gworker.app import observers, signatures, static_settings
from gworker.app import worker as declarations
from gworker.app.callbacks import ARGUMENTS, CALLBACKS, is_legacy
from gworker.app.foreign_interfaces import (
    USUAL_NAMES,
    WSGI,
    interface,
    is_application,
    is_undecided,
    is_wsgi_server,
    refusal,
    wsgi_refusal,
)
from gworker.app.script import LoadComplete, loading
from gworker.app.worker import Worker
from gworker.errors import ConfigError, GworkerError, LoadError
from gworker.system.directory import absolute
from gworker.system.readable import why_unreadable
from gworker.system.tracebacks import of_target

DEFAULT_HTTP = "http://127.0.0.1:8000"
DEFAULT_TCP = "tcp://127.0.0.1:8000"

Arguments = dict[str, Any]  # keyword arguments of a Worker


def load(
    target: str,
    directory: str,
    bind: Sequence[str] = (),
    script: bool = False,
    app: str | None = None,
) -> list[Worker]:
    """Load `target` and return its Workers, each with a name of its own. Raises LoadError or
    ConfigError.

    directory: where modules and relative paths are looked for. It need not be the current one.
    app: "wsgi" or "handler", what a callable is served as; None: what inspection finds.
    """
    source, _, attribute = target.partition(":")
    if not source:
        raise LoadError(f"target {target!r}: expected module[:attr] or path/to/file.py[:attr]")
    declarations.declared.clear()
    observers.of_all.clear()
    static_settings.begin_load(script)
    with _user_code(target):
        module = _import(source, directory, script)
        if attribute:
            found = _find(module, attribute, target)
        else:
            attribute, found = _default(module, target, source, app)
        workers = _workers(found, bind, target, attribute, app)
    _name(workers, module)
    return workers


@contextlib.contextmanager
def _user_code(target: str) -> Iterator[None]:
    # What it raises becomes a LoadError with the traceback of the user's frames.
    loading.append(target)
    try:
        yield
    except LoadError:
        raise
    except BaseException as error:
        if isinstance(error, GworkerError):
            what = f": {error}"
        elif isinstance(error, SystemExit):
            what = f" called sys.exit({error.code!r}) while it was loaded"
        else:
            what = f" failed to load: {type(error).__name__}: {error}"
        raise LoadError(f"target {target!r}{what}", of_target(error)) from error
    finally:
        loading.pop()


def _import(source: str, directory: str, script: bool) -> ModuleType:
    importlib.invalidate_caches()  # the directory of another release may be as old to the second
    if source.endswith(".py") or os.sep in source:
        return import_file(absolute(source, directory), directory, script)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        found = importlib.util.find_spec(source)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{source}.".startswith(f"{error.name}."):
            raise
        found = None
    if found is None:
        raise LoadError(
            f"module {source!r} not found; looked in {directory} and on "
            f"sys.path{_unreadable(directory)}"
        )
    return importlib.import_module(source)


def _unreadable(path: str) -> str:
    fault = why_unreadable(path)
    return f"; user {os.geteuid()} cannot read {fault}" if fault else ""


def import_file(path: str, directory: str, script: bool) -> ModuleType:
    """Execute the file at `path` as a module of its name, or as `__main__` if it is a script.
    Raises LoadError."""
    if not os.path.isfile(path):
        fault = _unreadable(path)
        raise LoadError(
            f"target {path!r} cannot be loaded{fault}" if fault else f"no such file: {path}"
        )
    for importable in (directory, os.path.dirname(path)):
        if importable not in sys.path:
            sys.path.insert(0, importable)
    name = "__main__" if script else os.path.basename(path).removesuffix(".py")
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    with contextlib.suppress(LoadComplete):  # Worker.run_all() ends a script
        specification.loader.exec_module(module)
    return module


def _find(module: ModuleType, attribute: str, target: str) -> object:
    # `attr`, `attr.attr` or the factory call `attr()`.
    call = attribute.endswith("()")
    found: object = module
    for part in attribute.removesuffix("()").split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            names = (
                ", ".join(name for name in vars(module) if not name.startswith("_")) or "nothing"
            )
            raise LoadError(
                f"target {target!r}: {module.__name__!r} has no attribute {part!r}; it has {names}"
            ) from None
    if not call:
        return found
    if not callable(found):
        raise LoadError(
            f"target {target!r}: {attribute.removesuffix('()')!r} is {_kind(found)}, which "
            "cannot be called"
        )
    return found()


def _default(module: ModuleType, target: str, source: str, app: str | None) -> tuple[str, object]:
    # What a target without an attribute serves, and its name.
    found = getattr(module, "handlers", None) or list(declarations.declared)
    if found:
        return "handlers", found
    for name in USUAL_NAMES:
        found = vars(module).get(name)
        if found is None or app == "handler":
            continue
        if is_wsgi_server(found) or interface(found) is not None or is_application(found, name):
            return name, found
    raise LoadError(_nothing_declared(module, target, source))


def _workers(
    found: object, bind: Sequence[str], target: str, label: str, app: str | None
) -> list[Worker]:
    if isinstance(found, Worker):
        return _declared([found], bind, target)
    if isinstance(found, list | tuple):
        return _declared(found, bind, target)
    name = label.removesuffix("()").rpartition(".")[2]
    options, default = _served(found, target, f"{target.partition(':')[0]}:{label}", name, app)
    urls = list(bind) or [default]
    return [
        Worker(url, name=name if len(urls) == 1 else f"{name}-{number}", **options)
        for number, url in enumerate(urls, 1)
    ]


def _declared(found: Sequence[object], bind: Sequence[str], target: str) -> list[Worker]:
    if not found:
        raise LoadError(f"target {target!r} is empty: no Worker at all")
    workers = [each for each in found if isinstance(each, Worker)]
    if others := [each for each in found if not isinstance(each, Worker)]:
        raise LoadError(
            f"target {target!r} is a {type(found).__name__} that holds {_kind(others[0])}, "
            "expected Workers only"
        )
    if bind and any(worker.listen_url for worker in workers):
        raise ConfigError(
            f"--bind {bind[0]} is given, but the Workers of {target!r} say themselves where they "
            "listen"
        )
    return workers


def _served(
    found: object, target: str, label: str, name: str, app: str | None
) -> tuple[Arguments, str]:
    # Its Worker arguments, and its default address.
    if is_wsgi_server(found):
        return _wsgi_server(found, label)
    has_callbacks = any(hasattr(found, each) for each in CALLBACKS)
    if app is None and is_undecided(found) and name not in USUAL_NAMES and not has_callbacks:
        raise LoadError(
            f"{label} takes any arguments, and may be a WSGI application or a handler: say "
            "--app wsgi or --app handler"
        )
    is_wsgi = app is None and (
        interface(found, has_callbacks) == WSGI
        or (not has_callbacks and is_application(found, name))
    )
    if app == "wsgi" or is_wsgi:
        if (reason := wsgi_refusal(found)) is not None:
            raise LoadError(f"{label} {reason}")
        return {"wsgi": found}, DEFAULT_HTTP
    if app is None and (reason := refusal(found, has_callbacks)) is not None:
        raise LoadError(f"{label} {reason}")
    return _handlers(found, target)


def _wsgi_server(found: Any, label: str) -> tuple[Arguments, str]:
    # The application and the address of an instance of gevent's WSGIServer, which is not started.
    address = found.address
    options: Arguments = {"wsgi": found.application}
    scheme = "http"
    if given := getattr(found, "ssl_args", None):
        if "certfile" not in given:
            raise LoadError(
                f"{label} is a WSGIServer with an ssl_context: gworker makes its own; give "
                "certfile and keyfile"
            )
        scheme = "https"
        options["tls"] = {key: given[key] for key in ("certfile", "keyfile") if key in given}
    if isinstance(address, tuple):
        host = address[0] or "0.0.0.0"
        return options, f"{scheme}://{f'[{host}]' if ':' in host else host}:{address[1]}"
    return {**options, "protocol": "http"}, f"unix://{address}"


def _handlers(found: object, target: str) -> tuple[Arguments, str]:
    if is_legacy(found):
        return {"handler": found}, DEFAULT_TCP
    if callbacks := _callbacks(found, target):
        return callbacks, DEFAULT_HTTP
    if callable(found) and not inspect.isclass(found):
        if (count := signatures.wanted(found)) == 1:
            return {"handler": found}, DEFAULT_TCP
        if signatures.accepts(found, 2):
            return {"on_message": found}, DEFAULT_HTTP
        raise LoadError(
            f"target {target!r} is {signatures.shown(found)}, which takes {count} arguments;"
            " expected (connection, data) for on_message or (connection) for a connection handler"
        )
    raise LoadError(
        f"target {target!r} is {_kind(found)}; expected a Worker, a list of Workers, a function "
        "(connection, data)"
        " or (connection), an object with on_… functions, or a socketserver request handler class"
    )


def _callbacks(found: object, target: str) -> Arguments:
    # `found` is a module, instance, class or dict.
    if isinstance(found, Mapping):
        named = {str(key): value for key, value in found.items() if str(key).startswith("on_")}
    else:
        named = {key: getattr(found, key) for key in dir(found) if key.startswith("on_")}
    for key in named:
        if key not in CALLBACKS:
            raise LoadError(
                f"target {target!r} has {key!r}, which is no callback; there are "
                f"{', '.join(CALLBACKS)}"
            )
    if inspect.isclass(found) and any(_wants_self(found, key) for key in named):
        instance = found()
        named = {key: getattr(instance, key) for key in named}
    return named


def _wants_self(cls: type, key: str) -> bool:
    # True for a method, also for one that forgets an argument; False for a function that a class
    # merely holds.
    function = inspect.getattr_static(cls, key)
    return inspect.isfunction(function) and (
        signatures.names(function)[:1] == ["self"]
        or signatures.wanted(function) == len(ARGUMENTS[key]) + 1
    )


def _kind(thing: object) -> str:
    return f"{thing!r} of type {type(thing).__name__}"


def _nothing_declared(module: ModuleType, target: str, source: str) -> str:
    functions = (
        name
        for name, value in vars(module).items()
        if callable(value)
        and not name.startswith("_")
        and getattr(value, "__module__", "") == module.__name__
    )
    name = next(functions, "")
    hint = f"; to serve the function {name!r} say {target}:{name}" if name else ""
    return f"target {target!r} declares no Worker at all and has no attribute 'handlers'{hint}"


def _name(workers: Sequence[Worker], module: ModuleType) -> None:
    # Give every Worker without a name that of its variable, else of its scheme; refuse doubles.
    variables = {
        id(value): variable
        # The first one counts, not a loop variable that came later.
        for variable, value in reversed(vars(module).items())
        if isinstance(value, Worker) and variable != "handlers"
    }
    taken = {worker.name for worker in workers if worker.name}
    for number, worker in enumerate(workers):
        if worker.name:
            continue
        scheme = (worker.listen_url or f"worker-{number}").partition("://")[0]
        name = variables.get(id(worker), scheme)
        others = (f"{name}-{suffix}" for suffix in itertools.count(2))
        worker.name = next(each for each in itertools.chain([name], others) if each not in taken)
        taken.add(worker.name)
    for name, number in Counter(worker.name for worker in workers).items():
        if number > 1:
            raise LoadError(
                f"two Workers are named {name!r}; `scale` and `status` need names that differ"
            )
