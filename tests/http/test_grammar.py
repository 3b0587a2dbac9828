"""Tokens of header fields."""

from __future__ import annotations

import re

import pytest

from gworker.http.grammar import TOKEN, tokens
from gworker.http.headers import Headers


def test_members_of_a_list_in_lower_case():
    assert tokens(Headers({"Connection": "keep-alive,\tUpgrade , "}), "connection") == [
        "keep-alive",
        "upgrade",
        "",
    ]


@pytest.mark.parametrize("text", ["", "a b", "a:", "é", "a,b", 'a"', "a/b"])
def test_what_is_no_token(text):
    assert re.fullmatch(TOKEN, text) is None


def test_a_token_has_every_character_of_rfc_9110():
    assert re.fullmatch(TOKEN, "!#$%&'*+-.^_`|~09azAZ")
