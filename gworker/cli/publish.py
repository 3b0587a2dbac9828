"""The publish command. It alone loads what speaks to a broker."""

from __future__ import annotations

import os
import sys
from typing import Any

from gworker.broker.url import HIDDEN, LOCAL
from gworker.cli import broker_check
from gworker.cli.control_client import ask
from gworker.cli.instances import Instance
from gworker.config import report
from gworker.config.settings import Settings
from gworker.errors import ConfigError
from gworker.messages.publisher import Publisher


def publish(group: str, message: str, settings: Settings, instance: Instance | None) -> int:
    """Publish a text to a group; `-` is what stdin has, without a newline at its end.

    instance: whose broker it goes to; None: to that of the settings.
    """
    if instance is None:
        broker_check.check(settings)
        publisher = Publisher(settings.broker.text, cluster=settings.cluster_name or "")
    else:
        publisher = Publisher(**_broker_of(instance, settings))
    try:
        with publisher:
            published = publisher.publish(group, _stdin() if message == "-" else message)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    where = f", position {published.position}" if published.position else ""
    print(f"processes that have it: {published.receivers}{where}")
    return 0


def _stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"what stdin has is no UTF-8: {error}") from None


def _broker_of(instance: Instance, settings: Settings) -> dict[str, Any]:
    """Arguments of a `Publisher`. settings: may have the password, which no instance tells."""
    rows = map(report.Row._make, ask(instance, "settings")["settings"]["rows"])
    values = {row.name: row.value for row in rows}
    shown = str(values["broker"])
    if shown == str(LOCAL):
        directory, file = os.path.split(instance.socket)
        return {"cluster": file.removesuffix(".sock"), "runtime_dir": directory}
    if shown == str(settings.broker):
        shown = settings.broker.text
    elif HIDDEN in shown:
        raise ConfigError(
            f"{instance} has the broker {shown}: give the whole URL, in GWORKER_BROKER"
        )
    return {"broker": shown, "cluster": values["cluster-name"]}
