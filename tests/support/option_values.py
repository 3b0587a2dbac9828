"""For each option a value, as a file and as the environment say it; and settings that are read."""

from __future__ import annotations

import os
from pathlib import Path

from gworker.broker.url import parse
from gworker.config.access_format import access_format
from gworker.config.options import OPTIONS, Option
from gworker.config.secret_keys import SecretKey
from gworker.config.settings import Layer, Settings
from gworker.config.sources import Sources

NAMES = {option.name: option for option in OPTIONS}


IN_FILES = [option for option in OPTIONS if option.file]


# For each option: what a file says, what it becomes, and the same in the environment. `~` is the
# file's directory.
VALUES: dict[str, tuple[str, object, str]] = {
    "workers": ("4", 4, "4"),
    "bind": ('["tcp://:1", "unix:///s"]', ("tcp://:1", "unix:///s"), "tcp://:1,unix:///s"),
    "daemon": ("true", True, "on"),
    "name": ('"shop"', "shop", "shop"),
    "pid": ('"x/y.pid"', "~/x/y.pid", "x/y.pid"),
    "runtime-dir": ('"run"', "~/run", "run"),
    "chdir": ('"."', "~", "."),
    "umask": ('"027"', 0o27, "027"),
    "user": ('"root"', "root", "root"),
    "group": ('"0"', "0", "0"),
    "env": ('{A = "b c", N = 5}', (("A", "b c"), ("N", "5")), "A=b,N=5"),
    "stdout-file": ('"/o"', "/o", "/o"),
    "log-file": ('"../l"', "~/../l", "../l"),
    "log-level": ('"DEBUG"', "debug", "Debug"),
    "broker": ('"redis://h"', parse("redis://h"), "redis://h"),
    "cluster-name": ('"shop"', "shop", "shop"),
    "broker-mode": ('"600"', 0o600, "600"),
    "broker-group": ('"0"', "0", "0"),
    "graceful-timeout": ("1.5", 1.5, "1.5"),
    "boot-timeout": ("2", 2.0, "2"),
    "timeout": ("1e1", 10.0, "1e1"),
    "max-requests": ("100", 100, "100"),
    "max-requests-jitter": ("10", 10, "10"),
    "max-memory": ('"64M"', 64 << 20, "64MiB"),
    "max-age": ("3600", 3600.0, "3600"),
    "log-format": ('"json"', "json", "json"),
    "access-log": ('"a"', "~/a", "a"),
    "reload": ("true", True, "on"),
    "reload-extra": ('["*.html", "/x"]', ("~/*.html", "/x"), "*.html,/x"),
    "max-connections": ("0", 0, "0"),
    "max-connections-per-address": ("20", 20, "20"),
    "idle-timeout": ("5", 5.0, "5"),
    "keep-alive": ("15", 15.0, "15"),
    "message-timeout": ("3", 3.0, "3"),
    "handler-timeout": ("2", 2.0, "2"),
    "send-timeout": ("20", 20.0, "20"),
    "close-timeout": ("2.5", 2.5, "2.5"),
    "min-rate": ("0", 0, "0"),
    "header-timeout": ("5.5", 5.5, "5.5"),
    "handshake-timeout": ('"6"', 6.0, "6"),
    "proxy-protocol": ("true", True, "on"),
    "forwarded-allow-ips": ('["10.0.0.0/8", "unix"]', ("10.0.0.0/8", "unix"), "10.0.0.0/8,unix"),
    "ping-interval": ('"7"', 7.0, "7"),
    "ping-timeout": ('"8"', 8.0, "8"),
    "max-package-size": ('"1MiB"', 1 << 20, "1M"),
    "max-send-buffer-size": ("0x1000", 4096, "4096"),
    "kernel-send-buffer": ('"128KiB"', 131072, "128KiB"),
    "max-json-size": ('"64K"', 65536, "64K"),
    "secret-key": ('["/k", "/l"]', (SecretKey(path="/k"), SecretKey(path="/l")), "/k,/l"),
    "access-log-format": ("'%(h)s'", access_format("%(h)s"), "%(h)s"),
    "upload-dir": ('"/var/tmp"', "/var/tmp", "/var/tmp"),
    "computing-processes": ("3", 3, "3"),
}


def read(target: str | None = "app", **command_line: object) -> Settings:
    """The settings with this command line, in the current directory."""
    return Sources(target, Layer("command line", command_line)).read()


def given(settings: Settings, option: Option) -> object:
    """What an option has become."""
    return settings.limits.get(option.key) if option.limit else getattr(settings, option.key)


def resolved(value: object, base: Path) -> object:
    """`value` with `~` as the directory of the file."""
    if isinstance(value, tuple):
        return tuple(resolved(each, base) for each in value)
    return (
        os.path.normpath(value.replace("~", str(base)))
        if isinstance(value, str) and "~" in value
        else value
    )
