"""Running an instance: the one place that knows the arbiter and what its children run."""

from __future__ import annotations

import gc
import logging
import signal
from importlib import import_module
from typing import Any

from setproctitle import setproctitle

from gworker.app.attribute_names import hint_for
from gworker.arbiter import SIGNALS, Arbiter
from gworker.cli import broker_check
from gworker.cli.instances import TITLE
from gworker.config import file_names
from gworker.config.settings import Settings
from gworker.errors import ConfigError
from gworker.logs import setup
from gworker.master.runtime_files import RuntimeFiles, UnusableDirectoryError
from gworker.master.systemd import Invocation
from gworker.process.bootstrap import Bootstrap
from gworker.process.gevent_patching import gevent_plugins
from gworker.system import directory, privileges
from gworker.system.daemon import Launch, open_output, redirect_output

log = logging.getLogger("gworker")

# What every child needs and gevent does not patch: imported once here, shared by the fork. It
# halves the time that a child takes to boot and costs the arbiter 5 MB. None of it may import ssl,
# threads or gevent.
PRELOADED = (
    "ctypes",
    "heapq",
    "importlib.metadata",
    "inspect",
    "pathlib",
    "pickle",
    "platform",
    "urllib.parse",
    "zope.event",
    "zope.interface",
    "gworker.logs.access_log",
    "gworker.connection.deadlines",
    "gworker.connection.lingering_close",
    "gworker.app.loader",
    "gworker.app.limits",
    "gworker.system.peer_address",
    "gworker.protocols.http.protocol",
    "gworker.protocols.text",
)


def serve(
    settings: Settings,
    launch: Launch,
    invocation: Invocation,
    document: dict[str, Any] | None = None,
) -> int:
    """Run an instance until it is stopped; return the exit code. Raises ConfigError if it cannot
    begin.

    document: what the arbiter that this process was has left (upgrade.py).
    """
    privileges.check(settings.user, settings.group)
    broker_check.check(settings)
    outputs = _prepare(settings, document)
    for complaint in invocation.complaints:
        log.warning("%s", complaint)
    for module in PRELOADED:
        import_module(module)
    gevent_plugins()
    # A collection in a child would look at all of this, and copy the pages that the fork shares.
    gc.freeze()
    gc.enable()
    # Before the pid file: a command that finds that reads the title.
    setproctitle(f"{TITLE}[{settings.name}]")
    # The pid file says where signals are to be sent. From now on they wait, until `SignalPipe`
    # has its handlers.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    files = _acquire(settings, document)
    entry = Bootstrap(outputs)
    try:
        return Arbiter(settings, launch, files, entry, outputs, invocation, document).run()
    finally:
        files.release()


def _acquire(settings: Settings, document: dict[str, Any] | None = None) -> RuntimeFiles:
    """The instance's files, taken. Raises ConfigError.

    The default directories are a courtesy: if none can be used, as in a container with a read-only
    root, the instance serves without files. A daemon without files could not be reached.
    """
    files = RuntimeFiles(settings.runtime_dirs, settings.name, settings.pid, settings.umask or 0)
    if document is not None:
        files.adopt(document["pid_files"])
        return files
    try:
        files.acquire()
    except UnusableDirectoryError as error:
        if settings.daemon or settings.pid is not None or settings.runtime_dir is not None:
            raise
        log.warning(
            "no pid file and no control socket, so status, reload and stop cannot find this "
            "instance: %s",
            error,
        )
    return files


def _prepare(settings: Settings, document: dict[str, Any] | None) -> setup.Outputs:
    # Returns the descriptors of the logs.
    try:
        if settings.chdir is not None:
            directory.enter(settings.chdir)
        if document is not None:
            outputs = setup.Outputs(*document["outputs"])  # the children use the same numbers
        else:
            if settings.log_file is not None and settings.has_default_log:
                file_names.prepare(settings.log_file)
            foreground = settings.stdout_file is not None and not settings.daemon
            stdout = open_output(settings.stdout_file) if foreground else None
            outputs = setup.open_outputs(settings, stdout)
            if stdout is not None:
                redirect_output(stdout)
    except OSError as error:
        raise ConfigError(f"cannot use {error.filename}: {error.strerror}") from None
    setup.configure(outputs.log, settings.log_level, settings.log_format, hint_for)
    return outputs
