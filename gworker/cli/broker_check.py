"""Whether the broker of the settings can be used: what is wrong with its URL, and with the Redis
there."""

from __future__ import annotations

from importlib.util import find_spec

from gworker.config.settings import Settings
from gworker.errors import ConfigError


def check(settings: Settings) -> None:
    """Raise ConfigError if no process could use the broker. Nothing is connected."""
    broker = settings.broker
    if not broker.is_redis:
        return
    if settings.cluster_name is None:
        raise ConfigError(
            f"broker {broker}: a --cluster-name is missing; instances that have the same one share "
            "messages"
        )
    if find_spec("redis") is None:
        raise ConfigError(
            f"broker {broker}: the package redis is not installed: pip install 'gworker[redis]'"
        )


def examine(settings: Settings) -> str:
    """What the broker is, in words; a Redis is asked. Raises ConfigError as `check`, and
    BrokerError for a Redis that cannot be reached or is not fit."""
    check(settings)
    broker = settings.broker
    if not broker.is_redis:
        return str(broker)
    from gworker.broker.redis import check as redis_check  # here: its package may be missing

    return f"{broker}: {redis_check.examine(broker, settings.cluster_name or '')}"
