"""What a file of settings says of single Workers, put onto what the target declares.

Runs in children, after the target was loaded. Limits are not touched here: they stay the Worker's
own, and `Settings.limits_of` says what holds instead, so that `gworker check` can tell one from the
other.
"""

from __future__ import annotations

from collections.abc import Sequence

from gworker.app.worker import Worker
from gworker.config.options import DEFAULT_LIMITS
from gworker.config.settings import Settings
from gworker.errors import ConfigError
from gworker.system import address

ATTRIBUTES = {"listen": "listen_url"}  # of Worker arguments that are kept under another name


def override(workers: Sequence[Worker], settings: Settings) -> None:
    """Set what `settings` say of each of `workers`. Raises ConfigError for a Worker that is not
    declared."""
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
                setattr(declared[name], ATTRIBUTES.get(key, key), value)


def _check_listen(worker: Worker, url: str, where: str) -> None:
    if worker.listen_url is None:
        raise ConfigError(f"{where}: listen = {url!r}, but this Worker has no socket")
    try:
        address.parse(url, worker.transport)
    except ConfigError as error:
        raise ConfigError(f"{where}: listen: {error}") from None
