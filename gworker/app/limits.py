"""What holds for one Worker in a process: its own arguments, overridden by the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gworker.config.settings import Settings
from gworker.config.trusted_proxies import LOCAL, Trust


@dataclass(frozen=True, slots=True)
class Limits:
    """The effective limits of one Worker. Seconds and bytes; 0: no limit; None: the default of
    `Connection`."""

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


def effective_limits(name: str, own: Mapping[str, Any], settings: Settings) -> Limits:
    """Defaults, overridden by the arguments `own` of the Worker `name`, overridden by the
    settings."""
    return Limits(**{**asdict(Limits()), **own, **settings.limits_of(name)})


def trusted_proxies(
    name: str, options: Mapping[str, Any], settings: Settings
) -> tuple[Trust | None, Trust]:
    """The proxies whose PROXY header the Worker `name` reads (None: it reads none), and those whose
    Forwarded counts.

    options: the arguments of the Worker.
    """
    said = settings.of_workers.get(name, {})
    named = said.get("forwarded_allow_ips") or ",".join(settings.forwarded_allow_ips)
    named = named or options.get("forwarded_allow_ips", "")
    reads = said.get("proxy_protocol", settings.proxy_protocol)
    if reads is None:
        reads = options.get("proxy_protocol", False)
    return Trust(named or LOCAL) if reads else None, Trust(named)
