"""When a cron expression is due, in a time zone: what `Timer.cron` waits for. Reads no clock.

The fields are those of crontab(5), and `cronsim` reads them as Debian's cron does: a day that
daylight saving leaves out moves a fixed time to the next minute that exists, and an hour that comes
twice runs a fixed time once, while `*` and `*/n` in the fields of minute or hour follow absolute
time.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

LOCALTIME: Final = "/etc/localtime"


class Schedule:
    """The moments that `expression` names in the time zone `tz`.

    Raises ValueError naming the expression or the zone that cannot be read.
    """

    def __init__(self, expression: str, tz: str | tzinfo | None = None) -> None:
        if not isinstance(expression, str):
            raise TypeError(f"a cron expression is text, not {type(expression).__name__}")
        self.zone = zone(tz)
        self._fields = ALIASES.get(expression.strip().lower(), expression)
        try:
            CronSim(self._fields, datetime.now(self.zone))
        except CronSimError as error:
            what = str(error)[:1].lower() + str(error)[1:]
            raise ValueError(
                f"cron expression {expression!r}: {what}; expected five fields, minute"
                " hour day-of-month month day-of-week, six with the second before them, or one of "
                + ", ".join(ALIASES)
            ) from None

    def after(self, moment: float) -> float:
        """The first time after `moment`; both in seconds since the epoch. Infinity: there is
        none."""
        start = datetime.fromtimestamp(moment, self.zone)
        for due in CronSim(self._fields, start):
            # In an hour that comes twice, what is named once has been in its first pass.
            if due.timestamp() > moment:
                return due.timestamp()
            if due - start > timedelta(days=366):
                break
        return float("inf")


def zone(tz: str | tzinfo | None) -> tzinfo:
    """The time zone that `tz` means: a name as `Europe/Berlin`, a tzinfo, or None for that of the
    machine."""
    if isinstance(tz, tzinfo):
        return tz
    name = tz if tz is not None else os.environ.get("TZ", "").removeprefix(":")
    if not name:
        try:
            return _from_file(LOCALTIME)
        except (OSError, ValueError):  # localtime(5): without the file, it is UTC
            return ZoneInfo("UTC")
    try:
        if os.path.isabs(name):
            return _from_file(name)
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        where = "" if tz is not None else " (the environment variable TZ)"
        raise ValueError(
            f"time zone {name!r}{where} is not known; expected a name as 'Europe/Berlin' or 'UTC',"
            " and the package tzdata of the system or of Python"
        ) from None


def _from_file(path: str) -> tzinfo:
    with open(path, "rb") as file:
        return ZoneInfo.from_file(file, key=path)
