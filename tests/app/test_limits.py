"""What holds for one Worker: defaults, its own arguments, the settings, in this order."""

from __future__ import annotations

from typing import Any

import pytest

from gworker.app.limits import Limits, effective_limits, trusted_proxies
from gworker.config.options import DEFAULT_LIMITS
from gworker.config.settings import Layer, resolve

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
