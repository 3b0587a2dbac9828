"""What the settings of a process say about its HTTP requests: how much JSON is parsed, where
uploads are spooled."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import gevent
from gevent import get_hub, monkey
from greenlet import getcurrent

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.config import secret_keys
from gworker.config.settings import Settings
from gworker.errors import ConfigError
from gworker.http import slices
from gworker.http.request import Request

A_TURN = 1e-6  # Seconds. After 0 the loop may not have looked at its sockets.


def apply(declared: Worker, limits: Limits, settings: Settings) -> None:
    """Set what holds for all requests of this process. Raises ConfigError for a directory that it
    cannot use."""
    Request.max_json_size = limits.max_json_size or Request.max_json_size
    declared.options["root_path"] = root_path(declared.options, settings, declared.name)
    Request.upload_dir = upload_dir(declared.options, settings, declared.name)
    if Request.upload_dir is not None:
        check_directory(Request.upload_dir, declared.name)
        if not os.access(Request.upload_dir, os.W_OK | os.X_OK):
            raise ConfigError(
                f"{declared.name}: upload_dir {Request.upload_dir}: this user cannot write there"
            )
    Request.secret_keys = secret_keys.read(settings.secret_key)
    slices.give_way = _give_way_of(get_hub())


def upload_dir(options: Mapping[str, Any], settings: Settings, name: str) -> str | None:
    """Where the Worker `name` spools uploads; None: the temporary directory. options: what it says
    itself."""
    own = settings.of_workers.get(name, {})
    return own.get("upload_dir") or settings.upload_dir or options.get("upload_dir")


def root_path(options: Mapping[str, Any], settings: Settings, name: str) -> str:
    """Where the WSGI application of the Worker `name` is mounted. options: what it says itself."""
    own = settings.of_workers.get(name, {})
    return own.get("root_path") or settings.root_path or options.get("root_path") or ""


def check_directory(path: str, name: str) -> None:
    if not os.path.isdir(path):
        raise ConfigError(f"{name}: upload_dir {path} is no directory")


def _give_way_of(hub: Any) -> Callable[[], None]:
    # What gives way to the other greenlets of this thread. In another thread, and in the hub, it
    # does nothing.
    thread_of = monkey.get_original("_thread", "get_ident")
    ours = thread_of()

    def give_way() -> None:
        if thread_of() == ours and getcurrent() is not hub:
            gevent.sleep(A_TURN)

    return give_way
