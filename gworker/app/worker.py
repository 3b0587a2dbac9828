"""The declaration of one service: where it listens, how many processes it has, its callbacks.

A Worker is what user code makes and gworker reads. Declaring one starts nothing. Inside a worker
process it is bound to a `Runtime`, through which `connections`, `listen` and the rest are answered;
this module itself imports neither gevent nor anything of the arbiter.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, Final, Literal, NoReturn, Protocol

from gworker.app import options as worker_options
from gworker.app import script
from gworker.app.attribute_names import meant
from gworker.app.broadcast import send_once_encoded
from gworker.app.callbacks import (
    CALLBACKS,
    CONNECTION_CALLBACKS,
    MASTER_CALLBACKS,
    Callback,
    Callbacks,
    check,
)
from gworker.app.foreign_interfaces import WSGI, described, wsgi_refusal
from gworker.app.handler_timeout import has_own_limit
from gworker.app.observers import Observe
from gworker.app.static_settings import STATIC, WithStaticSettings
from gworker.config.parsers import nearest
from gworker.errors import ConfigError
from gworker.ipc.declaration import Declaration
from gworker.system import address


class Runtime(Protocol):
    """What a worker process provides to the Worker that it serves.

    connections: each is a `Connection`. service: the `ServerContext`. Both stand above this
    package.
    """

    @property
    def id(self) -> int: ...
    @property
    def stopping(self) -> bool: ...
    @property
    def connections(self) -> dict[int, Any]: ...
    @property
    def service(self) -> Any: ...
    def listen(self, declared: Worker, url: str | None) -> str: ...
    def stop(self) -> None: ...


# Every Worker made in this process, in order: what a target without an attribute serves.
declared: list[Worker] = []

# The one Worker that this process serves, once it does.
running: list[tuple[Worker, Runtime]] = []

# Which connections move to a successor: "auto" those that nothing in this process depends on, True
# all that can, False none but HTTP connections between two requests.
Handover = bool | Literal["auto"]


# Keyword arguments of a Worker that are neither limits nor options nor callbacks.
NAMED: Final = (
    "name", "count", "user", "group", "reloadable", "reuse_port", "transport", "protocol",
    "backlog", "handover",
)  # fmt: skip

# All keyword arguments.
ARGUMENTS: Final = (
    *NAMED, *worker_options.LIMITS, *worker_options.OPTIONS, "handler", "wsgi", *CALLBACKS,
)  # fmt: skip

# Where it keeps them: set once.
OWN: Final = ("limits", "options", "callbacks", "process_callbacks", "observers")

ATTRIBUTES: Final = frozenset({*NAMED, *OWN, "listen_url", "connection_handler", "wsgi"})

METHODS: Final = (
    "set_callback", "observe", "broadcast", "listen", "declaration", "stop_all", "run_all",
)  # fmt: skip


class Worker(metaclass=WithStaticSettings):
    """One service.

    The arguments can also be set as attributes. Any other name is the application's own, unless it
    is another spelling of one.

    listen: `SCHEME://HOST:PORT`, `unix:///path`, or None for processes without a socket.
    count: processes; None takes the `-w` of the command line. handover: "auto", True or False, see
    `migration_obstacle`. wsgi: an application (PEP 3333) that answers the requests of HTTP; None:
    the callbacks do. Limits: see the settings of the same name; further options: `app.options`.
    Every callback of the documentation is a keyword, an attribute and a decorator.
    """

    on_connect = Callback()
    on_websocket_connect = Callback()
    on_message = Callback()
    on_close = Callback()
    on_error = Callback()
    on_buffer_full = Callback()
    on_buffer_drain = Callback()
    on_takeover = Callback()
    on_worker_start = Callback()
    on_worker_stop = Callback()
    on_worker_reload = Callback()
    on_presence = Callback()
    on_gap = Callback()
    on_broker_state = Callback()
    on_master_reload = Callback()
    on_master_stop = Callback()
    on_worker_exit = Callback()
    handler = Callback()
    observe = Observe()

    def __init__(
        self,
        listen: str | None = None,
        *,
        name: str | None = None,
        count: int | None = None,
        user: str | None = None,
        group: str | None = None,
        reloadable: bool = True,
        reuse_port: bool = False,
        transport: str | None = None,
        protocol: str | type | None = None,
        backlog: int = 1024,
        handover: Handover = "auto",
        **options: Any,
    ) -> None:
        if listen is not None:
            address.parse(listen, transport)
        self.listen_url = listen
        self.name = name or ""
        if count is None:
            vars(self)["count"] = 0
        else:
            self.count = count
        self.user = user
        self.group = group
        self.reloadable = reloadable
        self.reuse_port = reuse_port
        self.transport = transport
        self.protocol = protocol
        self.backlog = backlog
        self.handover: Handover = handover
        self.limits: dict[str, float | int] = {}
        self.options: dict[str, Any] = {}
        self.callbacks = Callbacks()
        self.process_callbacks: dict[str, Callable[..., object]] = {}
        self.observers: list[object] = []
        self.connection_handler: Any = None
        self.wsgi: Any = None
        for key, value in options.items():
            if key not in ARGUMENTS:
                hint = nearest(key, ARGUMENTS)
                raise TypeError(f"Worker() got an unexpected keyword argument {key!r}{hint}")
            setattr(self, key, value)
        declared.append(self)

    def __repr__(self) -> str:
        return f"<Worker {self.name or '?'} {self.listen_url or 'without a socket'}>"

    def set_callback(self, name: str, function: Callable[..., object] | None) -> None:
        """Set the callback `name`; None removes it. Raises TypeError if it cannot be called with
        its arguments."""
        if function is not None:
            check(name, function, self)
        if name == "handler":
            self.connection_handler = function
        elif name in CONNECTION_CALLBACKS:
            setattr(self.callbacks, name, function)
        elif function is None:
            self.process_callbacks.pop(name, None)
        else:
            self.process_callbacks[name] = function
        self._check_handlers()

    def _check_handlers(self) -> None:
        if self.connection_handler is None:
            return
        if self.callbacks.on_message is not None or self.wsgi is not None:
            other = "on_message" if self.wsgi is None else "a WSGI application"
            raise ConfigError(
                f"{self!r}: a Worker has either {other} or a connection handler, not both"
            )

    # ---- attributes

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
        elif name == "handover":
            if value is not True and value is not False and value != "auto":
                raise ConfigError(
                    f"Worker {self._who!r}: handover={value!r} is not valid, expected "
                    '"auto", True or False'
                )
        elif name == "wsgi" and value is not None:
            if (reason := wsgi_refusal(value)) is not None:
                raise TypeError(f"wsgi of {self!r} {reason}")
        elif name in METHODS or (name in OWN and name in vars(self)):
            raise AttributeError(f"{name} of a Worker cannot be set: it is gworker's own")
        elif not (
            name.startswith("_")
            or name in ATTRIBUTES
            or any(name in vars(each) for each in type(self).__mro__)
        ):
            self._refuse_misspelt(name)
        super().__setattr__(name, value)
        if name == "wsgi":
            self._check_handlers()

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

    # ---- what it declares

    def migration_obstacle(self, keeps_alive: bool) -> str:
        """Why no connection of this Worker moves to another process; "" if they may.

        keeps_alive: of a protocol whose peers rest between exchanges (HTTP): such connections move,
        between two of them, with handover=False, too.
        """
        if self.connection_handler is not None:
            kind = "socketserver" if isinstance(self.connection_handler, type) else "connection"
            return f"a {kind} handler"
        if self.handover is True:
            return ""
        if self.handover is False and not keeps_alive:
            return "handover=False"
        ours = self.callbacks
        if ours.on_takeover is not None or (ours.on_connect is None and ours.on_close is None):
            return ""
        registers = [name for name in ("on_connect", "on_close") if getattr(ours, name) is not None]
        return f"{' and '.join(registers)} without on_takeover"

    @property
    def is_heard(self) -> bool:
        """False if no callback could ever take a message, or give a connection one that does."""
        ours = self.callbacks
        return bool(
            self.wsgi
            or ours.on_message
            or ours.on_connect
            or ours.on_websocket_connect
            or self.process_callbacks
        )

    @property
    def has_own_limits(self) -> bool:
        """True if a callback has a limit of its own (`handler_timeout`)."""
        ours = self.callbacks
        found = [getattr(ours, name) for name in CONNECTION_CALLBACKS] + [self.connection_handler]
        return any(map(has_own_limit, found))

    def declaration(self) -> Declaration:
        """What the arbiter has to know."""
        tls = self.options.get("tls")
        return Declaration(
            name=self.name,
            listen=self.listen_url,
            transport=self.transport,
            count=self.count or None,
            user=self.user,
            group=self.group,
            reloadable=self.reloadable,
            reuse_port=self.reuse_port,
            backlog=self.backlog,
            migration_obstacle=self.migration_obstacle(self._keeps_alive()),
            speaks=self._speaks(),
            serves=self._serves(),
            limits=self.limits,
            hooks=tuple(name for name in MASTER_CALLBACKS if name in self.process_callbacks),
            files=tls.files() if tls is not None else (),
            unix_file={
                key: value for key, value in self.options.items() if key.startswith("unix_")
            },
        )

    def _speaks(self) -> str:
        protocol = self.spoken_protocol
        if isinstance(protocol, type):
            return f"{protocol.__module__}.{protocol.__qualname__}"
        return str(protocol or (self.listen_url or "").partition("://")[0]).lower()

    @property
    def spoken_protocol(self) -> str | type | None:
        """The protocol that it names; None: that of its address. An application is asked over
        HTTP, also at a unix socket."""
        is_unix = (self.listen_url or "").startswith("unix:")
        return "http" if self.protocol is None and self.wsgi and is_unix else self.protocol

    def _serves(self) -> str:
        if self.wsgi is not None:
            return f"{WSGI} ({described(self.wsgi)})"
        if self.connection_handler is not None:
            return f"a connection handler ({described(self.connection_handler)})"
        return "callbacks"

    def _keeps_alive(self) -> bool:
        if isinstance(self.protocol, type):
            return bool(getattr(self.protocol, "keeps_alive", False))
        return self._speaks() in ("http", "https")

    # ---- inside a worker process

    @property
    def _runtime(self) -> Runtime:
        if running and running[0][0] is self:
            return running[0][1]
        raise RuntimeError(f"{self!r} is not running in this process")

    @property
    def id(self) -> int:
        """The slot of this process: 0..count-1, kept over respawns and reloads."""
        return self._runtime.id

    @property
    def stopping(self) -> bool:
        """True once this process has begun to retire."""
        return self._runtime.stopping

    @property
    def connections(self) -> dict[int, Any]:
        """The open connections of this process by id. Loops go over a snapshot: connections may be
        closed in them."""
        return self._runtime.connections

    def broadcast(self, message: Any, exclude: Container[object] = ()) -> int:
        """Send `message` to all open connections of this process but `exclude`; return how many
        took it.

        It is encoded once for all that encode it alike, and does not block. An HTTP connection
        takes answers only, a WebSocket nothing before it is open: they are left out. A connection
        that refuses it hears of that by its own on_error (see `Connection.send`). Raises TypeError
        or ValueError for what cannot be sent; what one that encodes for itself raises is raised
        when all others have theirs.
        """
        chosen = list(self._runtime.connections.values())
        if exclude:
            chosen = [connection for connection in chosen if connection not in exclude]
        return send_once_encoded(chosen, message)

    def listen(self, url: str | None = None) -> str:
        """Open a further listener in this process only (of its own address again, if `url` is
        None).

        A Worker that is made inside a process, as in `on_worker_start`, is served there beside the
        Worker of the process, with its own protocol and callbacks and with the limits of that one.

        Returns its address with the port that was chosen. Raises ConfigError if it cannot be bound.
        A unix socket belongs to one process: give each a path with `os.getpid()` in it, for its
        successor starts before it ends.
        """
        if not running:
            raise RuntimeError(
                f"{self!r}: listen() works inside a worker process, from on_worker_start on"
            )
        return running[0][1].listen(self, url)

    @staticmethod
    def stop_all() -> None:
        """Retire this process gracefully; a successor replaces it."""
        for _, runtime in running:
            runtime.stop()

    @staticmethod
    def run_all() -> NoReturn:
        """Serve what this script declares: `python start.py start -d`. Never returns.

        The script is replaced by the `gworker` command, so that the arbiter has not imported it;
        the worker processes load it again and stop here.
        """
        script.run()
