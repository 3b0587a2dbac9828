"""What holds for one Worker in a process: its own arguments, overridden by the settings.

`override` sets what a file of settings says of single Workers. It does not touch limits: they stay
the Worker's own, and `Settings.limits_of` says what holds instead, so that `gworker check` can tell
one from the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gworker.app.worker import Worker
from gworker.config.options import DEFAULT_LIMITS
from gworker.config.settings import Settings
from gworker.config.trusted_proxies import LOCAL, Trust
from gworker.errors import ConfigError
from gworker.system import address


class Limits:
    """The effective limits of one Worker: seconds, bytes, bytes per second or a count.

    0: no limit. Those that are not given have the default of `config.options`; the sizes of what a
    connection takes are None then, and the attributes of `Connection` and `Request` hold.
    """

    max_connections: int
    max_connections_per_address: int
    idle_timeout: float
    keep_alive: float
    header_timeout: float
    handshake_timeout: float
    message_timeout: float
    handler_timeout: float
    send_timeout: float
    close_timeout: float
    min_rate: float
    ping_interval: float
    ping_timeout: float
    max_package_size: int | None
    max_send_buffer_size: int | None
    kernel_send_buffer: int
    max_json_size: int | None

    def __init__(self, **given: float) -> None:
        unsaid = dict.fromkeys(("max_package_size", "max_send_buffer_size", "max_json_size"))
        self.__dict__.update({**DEFAULT_LIMITS, **unsaid, **given})


def effective_limits(name: str, own: Mapping[str, float], settings: Settings) -> Limits:
    """Defaults, overridden by the arguments `own` of the Worker `name`, overridden by the
    settings."""
    return Limits(**{**own, **settings.limits_of(name)})


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


def override(workers: Sequence[Worker], settings: Settings) -> None:
    """Set what `settings` say of each of `workers`, in a child that has loaded them. Raises
    ConfigError for a Worker that is not declared."""
    declared = {worker.name: worker for worker in workers}
    for name, values in settings.of_workers.items():
        where = f"{settings.origins['of_workers']} [worker.{name}]"
        if name not in declared:
            raise ConfigError(
                f"{where}: the target declares no Worker {name!r}; it declares "
                f"{', '.join(declared)}"
            )
        for key, value in values.items():
            if key == "listen":
                _check_listen(declared[name], str(value), where)
            if key not in DEFAULT_LIMITS:
                setattr(declared[name], "listen_url" if key == "listen" else key, value)


def _check_listen(worker: Worker, url: str, where: str) -> None:
    if worker.listen_url is None:
        raise ConfigError(f"{where}: listen = {url!r}, but this Worker has no socket")
    try:
        address.parse(url, worker.transport)
    except ConfigError as error:
        raise ConfigError(f"{where}: listen: {error}") from None
