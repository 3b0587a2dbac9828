"""What a file of settings says of single Workers."""

from __future__ import annotations

from pathlib import Path

import pytest
from option_values import read

from gworker.app.overrides import override
from gworker.app.worker import Worker, declared
from gworker.errors import ConfigError


@pytest.fixture
def chat() -> Worker:
    worker = Worker("text://127.0.0.1:0", name="chat", count=1, idle_timeout=1)
    declared.remove(worker)
    return worker


def overriding(here: Path, worker: Worker, text: str) -> None:
    (here / "gworker.toml").write_text(text)
    override([worker], read())


def test_a_worker_is_overridden(here: Path, chat: Worker) -> None:
    overriding(
        here,
        chat,
        "[worker.chat]\nlisten = 'tcp://:1'\ncount = 5\nuser = 'root'\ngroup = '0'\nreloadable = "
        "false\n"
        "reuse-port = true\nbacklog = 7\nidle-timeout = 9",
    )
    made = chat.declaration()
    assert (made.listen, made.count, made.user, made.group) == ("tcp://:1", 5, "root", "0")
    assert (made.reloadable, made.reuse_port, made.backlog) == (False, True, 7)
    assert made.limits == {"idle_timeout": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[worker.caht]\ncount = 1",
            r"\[worker\.caht\]: the target declares no Worker 'caht'; it declares chat",
        ),
        ("[worker.chat]\nlisten = 'tcp://nowhere'", r"gworker\.toml \[worker\.chat\]: listen: "),
    ],
)
def test_what_cannot_be_overridden(here: Path, chat: Worker, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        overriding(here, chat, text)


def test_a_worker_without_a_socket_gets_none(here: Path) -> None:
    worker = Worker(name="chat")
    declared.remove(worker)
    with pytest.raises(ConfigError, match="this Worker has no socket"):
        overriding(here, worker, "[worker.chat]\nlisten = 'tcp://:1'")
