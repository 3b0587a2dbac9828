"""The attributes of a Worker, and the error for a name that is another spelling of one.

The arguments of `Worker(…)` can also be set as attributes. Any other name is the application's own.
"""

from __future__ import annotations

from typing import Any, Final

from gworker.app import options as worker_options
from gworker.app import static_settings
from gworker.app.attribute_names import Strict, meant
from gworker.app.callbacks import CALLBACKS
from gworker.app.static_settings import STATIC
from gworker.config.parsers import nearest
from gworker.errors import ConfigError

# Keyword arguments of a Worker that are neither limits nor options nor callbacks.
NAMED: Final = (
    "name", "count", "user", "group", "reloadable", "reuse_port", "transport", "protocol",
    "backlog", "handover",
)  # fmt: skip

# All keyword arguments.
ARGUMENTS: Final = (
    *NAMED, *worker_options.LIMITS, *worker_options.OPTIONS, "handler", *CALLBACKS,
)  # fmt: skip

# Where it keeps them: set once.
OWN: Final = ("limits", "options", "callbacks", "process_callbacks")

ATTRIBUTES: Final = frozenset({*NAMED, *OWN, "listen_url", "connection_handler"})

METHODS: Final = ("set_callback", "broadcast", "listen", "declaration", "stop_all", "run_all")


class WorkerType(Strict):
    """The type of Worker: a script's settings are attributes of the class (static_settings.py)."""

    def __setattr__(cls, name: str, value: object) -> None:
        if name in STATIC:
            static_settings.set_static(name, value)
        else:
            super().__setattr__(name, value)

    def __getattr__(cls, name: str) -> Any:
        if name in STATIC:
            return static_settings.given.get(name)
        raise AttributeError(f"Worker has no attribute {name!r}; {static_settings.hint(name)}")

    def _check(cls, name: str) -> None:
        if word := meant(name, CALLBACKS):
            raise AttributeError(f"callbacks belong to one Worker, not to all: worker.{word} = …")
        is_worker_itself = cls.__mro__[1] is WorkerAttributes  # a subclass may have more
        if not hasattr(cls, name) and (is_worker_itself or meant(name, STATIC)):
            raise AttributeError(f"Worker has no setting {name!r}; {static_settings.hint(name)}")


class WorkerAttributes(metaclass=WorkerType):
    """The setting and getting of attributes of a Worker."""

    limits: dict[str, float | int]
    options: dict[str, Any]

    def __setattr__(self, name: str, value: object) -> None:
        if name in worker_options.LIMITS:
            self.limits[name] = worker_options.limit(name, value, self._who)
            return
        if name in worker_options.OPTIONS:
            self.options[name] = worker_options.option(name, value, self._who)
            return
        if name == "count":
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(
                    f"Worker {self._who!r}: count={value!r} is not a whole number from 1"
                )
        elif name in METHODS or (name in OWN and name in vars(self)):
            raise AttributeError(f"{name} of a Worker cannot be set: it is gworker's own")
        elif not self._has_place_for(name):
            self._refuse_misspelt(name)
        super().__setattr__(name, value)

    def _has_place_for(self, name: str) -> bool:
        is_of_class = any(name in vars(each) for each in type(self).__mro__)
        return name.startswith("_") or name in ATTRIBUTES or is_of_class

    def _refuse_misspelt(self, name: str) -> None:
        if name.startswith("on_"):
            raise AttributeError(f"{name!r} is no callback of a Worker{nearest(name, CALLBACKS)}")
        if word := meant(name, STATIC):
            raise AttributeError(
                f"a Worker has no attribute {name!r}: it is one for all, Worker.{word}"
            )
        if word := meant(name, ARGUMENTS):
            raise AttributeError(f"a Worker has no attribute {name!r}; did you mean {word}?")

    def __getattr__(self, name: str) -> Any:
        if name in worker_options.LIMITS:
            return self.limits.get(name)
        if name in worker_options.OPTIONS:
            return self.options.get(name)
        self._refuse_misspelt(name)
        word = meant(name, (*METHODS, "id", "stopping", "connections"))
        hint = f"; did you mean {word}?" if word else ""
        raise AttributeError(f"a Worker has no attribute {name!r}{hint}")

    @property
    def _who(self) -> str:
        # As messages name it.
        found: str = vars(self).get("name") or vars(self).get("listen_url") or "?"
        return found
