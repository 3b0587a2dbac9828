"""Values as people write them: sizes, users, numbers."""

from __future__ import annotations

import argparse

import pytest

from gworker.config import parsers
from gworker.config import settings as config
from gworker.config.options import add_options
from gworker.config.settings import Settings, resolve


def parse(*argv: str) -> Settings:
    parser = argparse.ArgumentParser(prog="gworker", allow_abbrev=False)
    add_options(parser)
    return resolve("app:handlers", config.command_line(parser.parse_args(argv)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("65536", 65536),
        ("10B", 10),
        ("1K", 1024),
        ("1k", 1024),
        ("1KB", 1024),
        ("1kib", 1024),
        ("1.5 MiB", 3 << 19),
        ("2G", 2 << 30),
        ("1T", 1 << 40),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert parsers.size(text) == expected


def test_a_size_beyond_all_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="a size in bytes"):
        parsers.size("9" * 400 + "K")


def test_ids() -> None:
    assert (parsers.user("root"), parsers.user("77"), parsers.group("root")) == (
        "root",
        "77",
        "root",
    )
    for parse in (parsers.user, parsers.group):
        for text in ("no such", "\0", str(2**32 - 1), "9" * 5000, "\u0663"):
            with pytest.raises(ValueError, match="that exists, or a numeric id"):
                parse(text)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "localhost", "10.0.0.0/33", "unix:/x"])
def test_what_is_no_list_of_networks(text: str) -> None:
    with pytest.raises(ValueError, match="networks"):
        parsers.networks(text)


def test_the_normal_form_of_networks() -> None:
    given = "10.0.0.1, 10.0.0.0/8  ::1 unix,*"
    assert parsers.networks(given) == "10.0.0.1,10.0.0.0/8,::1,unix,*"
