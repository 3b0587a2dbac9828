"""What a function can be called with: found out when a callback is set, and not at a request."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from inspect import Parameter, Signature
from types import FunctionType, MethodType

ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
PLAIN = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def accepts(function: Callable[..., object], count: int) -> bool:
    """False only if it is certain that a call with `count` positional arguments is a TypeError."""
    try:
        if not _is_plain(function, count) and (signature := _own(function)) is not None:
            signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _is_plain(function: Callable[..., object], count: int) -> bool:
    # The usual case, without a Signature: connections may get callbacks of their own as they are
    # accepted.
    if type(function) is MethodType:
        function, count = function.__func__, count + 1
    if type(function) is not FunctionType:
        return False
    code = function.__code__
    return code.co_argcount == count and not code.co_kwonlyargcount


def _own(function: Callable[..., object]) -> Signature | None:
    """How `function` itself is called; None if that cannot be known, as of some builtins.

    What it wraps may take other arguments (a decorator that adds a database), and so may what a
    `__signature__` says.
    """
    inner: object = function
    while isinstance(inner, partial | MethodType):
        inner = inner.func if isinstance(inner, partial) else inner.__func__
    try:
        if getattr(inner, "__signature__", None) is not None:
            return None
        return inspect.signature(function, follow_wrapped=False)
    except Exception:  # builtins have none, and an object may do anything when it is asked
        return None


def _written(function: Callable[..., object]) -> Signature | None:
    # The signature that its author has written, through all decorators.
    try:
        return inspect.signature(function)
    except Exception:
        return None


def names(function: Callable[..., object]) -> list[str]:
    """The names of the positional parameters, as the author has written them."""
    signature = _written(function)
    return (
        []
        if signature is None
        else [each.name for each in signature.parameters.values() if each.kind in PLAIN]
    )


def wanted(function: Callable[..., object]) -> int | None:
    """How many positional arguments `function` needs; None if any number will do, or that cannot be
    known.

    A decorator's `(*args)` leaves it to what it wraps.
    """
    signature = _own(function)
    if signature is None or _is_open(signature):
        signature = _written(function)
    if signature is None or _is_open(signature):
        return None
    return sum(
        each.kind in PLAIN and each.default is Parameter.empty
        for each in signature.parameters.values()
    )


def _is_open(signature: Signature) -> bool:
    return any(each.kind is Parameter.VAR_POSITIONAL for each in signature.parameters.values())


def takes_anything(function: Callable[..., object]) -> bool:
    """True for `(*args, **kwargs)`, which may do anything with them."""
    signature = _written(function)
    kinds = set() if signature is None else {each.kind for each in signature.parameters.values()}
    return kinds == {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}


def is_async(function: Callable[..., object]) -> bool:
    """True if a call runs nothing, but returns what an asyncio loop would have to run."""
    plain: object = function.__func__ if type(function) is MethodType else function
    if type(plain) is FunctionType:
        return bool(plain.__code__.co_flags & ASYNC)
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    call = inspect.getattr_static(type(function), "__call__", None)
    return any(kind(function) or kind(call) for kind in kinds)


def shown(function: Callable[..., object]) -> str:
    # `name(connection, data)`, for an error.
    name = getattr(function, "__qualname__", None) or repr(function)
    return f"{name.rpartition('<locals>.')[2]}{_own(function) or _written(function) or '(…)'}"
