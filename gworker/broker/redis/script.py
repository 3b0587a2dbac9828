"""The scripts, as a server gets them.

A script that begins with `-- common: NAME, …` behind its first line uses functions of these files
in `scripts/common`: they are put there, in this order. Lua has no import on a server.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

_USES = "-- common: "


@dataclass(frozen=True)
class Script:
    source: bytes
    digest: bytes


def _source(path: Path) -> bytes:
    shebang, first, rest = path.read_text().split("\n", 2)
    if not first.startswith(_USES):
        return path.read_bytes()
    names = first.removeprefix(_USES).split(", ")
    common = [(path.parent / "common" / f"{name}.lua").read_text() for name in names]
    return "\n".join([shebang, *common, rest]).encode()


def _load() -> dict[str, Script]:
    scripts = {}
    for path in sorted(Path(__file__).with_name("scripts").glob("*.lua")):
        source = _source(path)
        digest = sha1(source, usedforsecurity=False).hexdigest().encode()
        scripts[path.stem] = Script(source, digest)
    return scripts


SCRIPTS = _load()
"""By their names: those of the operations, mostly."""
