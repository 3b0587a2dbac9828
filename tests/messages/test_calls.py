"""The calls, as the module `gworker.messages` has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gworker import messages


def test_all_of_them_are_imported_without_a_worker_process() -> None:
    found: dict[str, object] = {}
    exec("from gworker.messages import *", found)
    assert found["publish"] == messages.publish
    with pytest.raises(RuntimeError, match="inside a worker process"):
        messages.publish("room", "x")
    with pytest.raises(RuntimeError, match="inside a worker process"):
        print(messages.state)


def test_no_module_hides_one_of_them() -> None:
    # The import of a module of that name would replace the function.
    modules = {path.stem for path in Path(messages.__file__).parent.iterdir()}
    assert modules.isdisjoint([*messages.__all__, "state"])
