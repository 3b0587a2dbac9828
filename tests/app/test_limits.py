"""What holds for one Worker: defaults, its own arguments, the settings, in this order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from option_values import read

from gworker.app.limits import Limits, effective_limits, override, trusted_proxies
from gworker.app.worker import Worker, declared
from gworker.config.options import DEFAULT_LIMITS
from gworker.config.settings import Layer, resolve
from gworker.errors import ConfigError

LOCAL, FAR = ("127.0.0.1", 1), ("192.0.2.1", 1)


def settings(**given: Any) -> Any:
    return resolve("app", Layer("command line", given))


def test_there_is_a_limit_for_each_option_that_is_one() -> None:
    assert set(Limits.__annotations__) == set(DEFAULT_LIMITS)
    limits = Limits()
    unsaid = ("max_package_size", "max_send_buffer_size", "max_json_size")
    for name, default in DEFAULT_LIMITS.items():
        assert getattr(limits, name) == (None if name in unsaid else default)


def test_settings_override_arguments_and_those_the_defaults() -> None:
    own = {"keep_alive": 3, "send_timeout": 4}
    limits = effective_limits("web", own, settings(send_timeout=5.0, max_json_size=6))
    assert (limits.keep_alive, limits.send_timeout, limits.max_json_size) == (3, 5.0, 6)
    assert limits.header_timeout == DEFAULT_LIMITS["header_timeout"]
    one_worker = settings(of_workers={"web": {"send_timeout": 7}}, send_timeout=5.0)
    assert effective_limits("web", own, one_worker).send_timeout == 7
    assert effective_limits("other", own, one_worker).send_timeout == 5.0


@pytest.mark.parametrize(
    ("options", "given", "reads", "forwarders"),
    [
        ({}, {}, None, False),
        ({"proxy_protocol": True}, {}, "local", False),
        ({"proxy_protocol": True, "forwarded_allow_ips": "192.0.2.1"}, {}, "far", True),
        ({"forwarded_allow_ips": "192.0.2.1"}, {}, None, True),
        ({}, {"proxy_protocol": True}, "local", False),
        ({"forwarded_allow_ips": "127.0.0.1"}, {"forwarded_allow_ips": ("192.0.2.1",)}, None, True),
        ({}, {"of_workers": {"web": {"forwarded_allow_ips": "192.0.2.1"}}}, None, True),
        ({"proxy_protocol": True}, {"of_workers": {"web": {"proxy_protocol": False}}}, None, False),
    ],
)
def test_which_proxies_are_trusted(
    options: dict[str, Any], given: dict[str, Any], reads: str | None, forwarders: bool
) -> None:
    proxies, trusted = trusted_proxies("web", options, settings(**given))
    assert (None if proxies is None else "local" if proxies.has_peer(LOCAL) else "far") == reads
    assert trusted.has_peer(FAR) is forwarders


# ---- what a file of settings says of single Workers


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
