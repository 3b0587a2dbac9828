"""The document that an arbiter leaves to its successor: what is refused, and what another version
may add."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from world import World, declaration

from gworker.errors import ConfigError
from gworker.master import upgrade_state

MakeWorld = Callable[..., World]
TCP = "tcp://127.0.0.1:0"


def serve(world: World) -> None:
    world.start(
        declaration(
            "a", count=2, listen="text://127.0.0.1:0", migration_obstacle="", speaks="text"
        ),
        declaration("b", count=1),
    )


def document(world: World, **changes: Any) -> dict[str, Any]:
    return {
        **json.loads(json.dumps(world.instance.document())),
        **changes,
    }


WRONG: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda d: d.update(format=99), "needs a restart"),
    (lambda d: d.update(words=8), "needs a restart"),
    (lambda d: d.pop("counts"), "does not understand .*counts"),
    (lambda d: d["declarations"][0].pop("listen"), "does not understand .*listen"),
    (lambda d: d["processes"][0].update(state="dancing"), "does not understand .*dancing"),
    (lambda d: d["processes"][0].update(key={"planet": 1}), "does not understand .*planet"),
    (lambda d: d["restart"].update(runtime_dir="/elsewhere"), "restart needed for: runtime-dir"),
]


@pytest.mark.parametrize(("change", "expected"), WRONG, ids=[expected for _, expected in WRONG])
def test_a_document_that_cannot_be_understood(
    world: World, change: Callable[[dict[str, Any]], object], expected: str
) -> None:
    serve(world)
    found = document(world)
    upgrade_state.check(found, world.fleet.settings)
    change(found)
    with pytest.raises(ConfigError, match=expected):
        upgrade_state.check(found, world.fleet.settings)


def test_a_document_of_an_older_version_and_of_a_newer_one(world: World) -> None:
    serve(world)
    found = document(world)
    for record in (*found["processes"], *found["slots"], *found["declarations"]):
        record["from_the_future"] = 1
    for record in found["processes"]:
        del record["compatibility"], record["stacks_requested"]
    found["restart"]["from_the_future"] = 1
    upgrade_state.check(found, world.fleet.settings)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_a_trial_refuses_users_that_the_new_settings_do_not_allow(world: World) -> None:
    """Until the reload, processes that die are started again as the plan of before says."""
    world.start(declaration("a", user="daemon"))
    document, settings = world.instance.document(), world.fleet.settings
    upgrade_state.check_in_trial(document, settings)
    with pytest.raises(ConfigError, match="Worker 'a': user 'daemon': with --user set"):
        upgrade_state.check_in_trial(document, dataclasses.replace(settings, user="nobody"))
