"""What another user cannot read, and which directory is closed to that user."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from instance import effective_user

from gworker.app.loader import load
from gworker.errors import ConfigError, LoadError
from gworker.system import readable

NOBODY = pwd.getpwnam("nobody").pw_uid

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to look as another user")


@pytest.fixture
def place() -> Iterator[Path]:
    """`place/house/room/app.py`, which every user may read."""
    with tempfile.TemporaryDirectory() as name:
        room = Path(name, "house", "room")
        room.mkdir(parents=True)
        (room / "app.py").touch()
        os.chmod(name, 0o755)
        yield Path(name)


def as_nobody(path: Path | str) -> str:
    with effective_user(NOBODY):
        return readable.why_unreadable(str(path))


def test_what_can_be_read_or_does_not_exist(place: Path) -> None:
    for path in (
        place,
        place / "house/room/app.py",
        place / "house/none.py",
        place / "none/none.py",
    ):
        assert as_nobody(path) == ""


def test_the_first_closed_directory_is_named(place: Path) -> None:
    app = place / "house/room/app.py"
    app.chmod(0o600)
    assert as_nobody(app) == f"{app} ({app} has mode 0600 and belongs to user 0)"
    (place / "house/room").chmod(0o744)  # it can be listed, and what is in it cannot be opened
    assert as_nobody(app) == f"{app} ({place}/house/room has mode 0744 and belongs to user 0)"
    (place / "house").chmod(0o700)
    assert as_nobody(app) == f"{app} ({place}/house has mode 0700 and belongs to user 0)"
    assert readable.why_unreadable(str(app)) == "", "root can"


def test_a_link_into_a_closed_directory(place: Path) -> None:
    (place / "house").chmod(0o700)
    link = place / "link.py"
    link.symlink_to(place / "house/room/app.py")
    assert as_nobody(link) == f"{link} ({place}/house has mode 0700 and belongs to user 0)"


def test_the_part_that_is_closed_is_named(place: Path) -> None:
    (place / "house").chmod(0o700)
    files = {"Python": "/etc/passwd", "gevent": str(place / "house/room/app.py")}
    with (
        effective_user(NOBODY),
        pytest.raises(ConfigError, match="^user 'nobody' cannot read gevent: .*/app.py"),
    ):
        readable.check("nobody", files)
    readable.check("root", files)


def test_the_parts_are_there() -> None:
    parts = readable.parts()
    assert list(parts) == ["Python", "gworker", "gevent"]
    assert len(set(parts.values())) == 3
    assert all(map(os.path.isfile, parts.values()))


@pytest.mark.parametrize("target", ["app", "house/room/app.py"])
def test_a_target_in_a_closed_directory_is_not_called_missing(place: Path, target: str) -> None:
    directory = place / "house/room" if target == "app" else place
    (place / "house").chmod(0o700)
    with effective_user(NOBODY), pytest.raises(LoadError) as refused:
        load(target, str(directory), (), False)
    assert f"user {NOBODY} cannot read {place}/house/room" in str(refused.value)
    assert f"({place}/house has mode 0700 and belongs to user 0)" in str(refused.value)
