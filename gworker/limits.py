"""The limits of one Worker, as they hold in a process."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from gworker.config import Settings
from gworker.worker import Worker


@dataclass(frozen=True, slots=True)
class Limits:
    """The effective limits of one Worker. Seconds and bytes; 0: no limit; None: the default of `Connection`."""

    max_connections: int = 0
    max_connections_per_address: int = 0
    idle_timeout: float = 0
    keep_alive: float = 75
    header_timeout: float = 10
    handshake_timeout: float = 10
    message_timeout: float = 0
    send_timeout: float = 60
    close_timeout: float = 5
    min_rate: float = 240
    ping_interval: float = 0
    ping_timeout: float = 20
    max_package_size: int | None = None
    max_send_buffer_size: int | None = None
    kernel_send_buffer: int = 262144
    max_json_size: int | None = None


def effective_limits(declared: Worker, settings: Settings) -> Limits:
    """Defaults, overridden by the Worker's arguments, overridden by the settings."""
    return Limits(**{**asdict(Limits()), **declared.limits, **settings.limits_of(declared.name)})
