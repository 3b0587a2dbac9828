"""What the arbiter has to know of a Worker, as the probe child tells it: values, no user code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gworker.system import address


@dataclass(frozen=True)
class Declaration:
    """One Worker. It travels as JSON (`asdict`)."""

    name: str
    listen: str | None
    transport: str | None
    count: int | None
    user: str | None
    group: str | None
    reloadable: bool
    reuse_port: bool
    backlog: int
    # Why none of its connections moves to another process; "": they may.
    migration_obstacle: str = ""
    # What its connections speak: they can move only to a process that speaks the same.
    speaks: str = ""
    serves: str = ""  # a WSGI application, a connection handler or callbacks, for people
    limits: Mapping[str, float | int] = field(default_factory=dict)
    hooks: Sequence[str] = ()  # which of callbacks.MASTER_CALLBACKS it has
    # Certificates and keys: read in its processes before they give up their privileges.
    files: Sequence[str] = ()
    # Mode and owner of its unix socket (`unix_socket.UnixFile`).
    unix_file: Mapping[str, object] = field(default_factory=dict)

    def address(self) -> address.Address | None:
        """The parsed listen address; None for a Worker without a socket. Raises ConfigError."""
        return address.parse(self.listen, self.transport) if self.listen else None
