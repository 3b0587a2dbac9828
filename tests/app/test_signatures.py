"""Callbacks with the wrong number of arguments are refused where they are set; what can be called
is not."""

from __future__ import annotations

import functools
import operator
import unittest.mock
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gworker.app import worker as declarations
from gworker.app.callbacks import ARGUMENTS, CALLBACKS, check_call
from gworker.app.signatures import accepts, is_async, shown, wanted
from gworker.app.worker import Worker


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    declarations.declared.clear()


def of(count: int) -> Callable[..., Any]:
    """A plain function of so many arguments."""
    names = ", ".join(f"a{number}" for number in range(count))
    made: Callable[..., Any] = eval(f"lambda {names}: None")
    return made


def plain(connection: Any, data: Any) -> None: ...
def with_default(connection: Any, data: Any = None, more: Any = None) -> None: ...
def any_number(*arguments: Any) -> None: ...
def positional_only(connection: Any, data: Any, /) -> None: ...
def optional_keyword(connection: Any, data: Any, *, more: Any = None) -> None: ...
def needed_keyword(connection: Any, data: Any, *, more: Any) -> None: ...
def keywords_alone(**named: Any) -> None: ...
async def coroutine(connection: Any, data: Any) -> None: ...


def adds_a_database(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator after which one argument fewer is needed."""

    @functools.wraps(function)
    def wrapper(connection: Any, data: Any) -> None:
        function(connection, data, "database")

    return wrapper


def leaves_it_open(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> None:
        function(*arguments, "database")

    return wrapper


@adds_a_database
def decorated(connection: Any, data: Any, database: Any) -> None: ...


@leaves_it_open
def decorated_openly(connection: Any, data: Any, database: Any) -> None: ...


class Handler:
    def method(self, connection: Any, data: Any) -> None: ...
    def one(self, connection: Any) -> None: ...
    def __call__(self, connection: Any, data: Any) -> None: ...

    @classmethod
    def of_class(cls, connection: Any, data: Any) -> None: ...

    @staticmethod
    def static(connection: Any, data: Any) -> None: ...


class AsyncHandler:
    async def method(self, connection: Any, data: Any) -> None: ...
    async def __call__(self, connection: Any, data: Any) -> None: ...


class Made:
    def __init__(self, connection: Any, data: Any) -> None: ...


class Claiming:
    """What a proxy object says of itself need not be how it is called."""

    __signature__ = __import__("inspect").signature(lambda a, b, c: None)

    def __call__(self, *arguments: Any) -> None: ...


class Hostile:
    @property
    def __signature__(self) -> Any:
        raise RuntimeError("not now")

    def __call__(self, connection: Any, data: Any) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        plain, with_default, any_number, positional_only, optional_keyword, decorated,
        decorated_openly,
        Handler().method, Handler(), Handler.of_class, Handler.static, Made, print, operator.add,
        dict.get, min, dict,
        [].insert, functools.partial(of(3), 1), functools.partial(any_number, 1),
        functools.partial(Handler().method), functools.lru_cache(plain), unittest.mock.Mock(),
        Claiming(), Hostile(),
        functools.singledispatch(plain),
    ],
)  # fmt: skip
def test_what_takes_two_arguments(function: Callable[..., Any]) -> None:
    assert accepts(function, 2)
    check_call("on_message", function, "it")


@pytest.mark.parametrize(
    "function",
    [
        of(0), of(1), of(3), needed_keyword, keywords_alone, Handler().one, Handler.method,
        functools.partial(of(2), 1),
        functools.partial(of(4), 1), functools.partial(Handler().one), Handler, len, [].append,
        functools.partial(plain, data=None),
    ],
)  # fmt: skip
def test_what_does_not(function: Callable[..., Any]) -> None:
    assert not accepts(function, 2)
    with pytest.raises(TypeError):
        check_call("on_message", function, "it")


@pytest.mark.parametrize("name", [*CALLBACKS, "handler"])
@pytest.mark.parametrize("how", ["keyword", "decorator", "assignment"])
@pytest.mark.parametrize("by", [-1, +1])
def test_every_callback_is_checked_however_it_is_set(name: str, how: str, by: int) -> None:
    arguments = ARGUMENTS[name]
    right, wrong = of(len(arguments)), of(len(arguments) + by)
    expected = rf"{name} of <Worker .*> is <lambda>\(.*\); expected \({', '.join(arguments)}\)"
    worker = Worker("tcp://127.0.0.1:0", **{name: right})
    with pytest.raises(TypeError, match=expected):
        if how == "keyword":
            Worker("tcp://127.0.0.1:0", **{name: wrong})
        elif how == "decorator":
            getattr(worker, name)(wrong)
        else:
            setattr(worker, name, wrong)


def test_the_error_shows_the_signature_as_it_is_written() -> None:
    assert shown(of(1)) == "<lambda>(a0)"
    assert shown(Handler().one) == "Handler.one(connection: 'Any') -> 'None'"
    assert shown(Claiming()).endswith("(a, b, c)")
    assert shown(dict).startswith("dict(")


@pytest.mark.parametrize(
    "function", [coroutine, functools.partial(coroutine), AsyncHandler(), AsyncHandler().method]
)
def test_a_call_of_an_async_function_runs_nothing(function: Callable[..., Any]) -> None:
    assert is_async(function)
    with pytest.raises(
        TypeError, match=r"on_message of it is the async function .*; expected a plain function"
    ):
        check_call("on_message", function, "it")


def test_what_wraps_an_async_function_may_run_it() -> None:
    check_call("on_message", leaves_it_open(coroutine), "it")


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (of(1), 1), (with_default, 1), (any_number, None), (decorated, 2), (decorated_openly, 3),
        (leaves_it_open(of(1)), 1), (dict.get, 2), (Handler(), 2), (print, None),
    ],
)  # fmt: skip
def test_how_many_arguments_a_target_wants(function: Callable[..., Any], count: int | None) -> None:
    assert wanted(function) == count
