"""Formats of the access log: what is one, and where one is wrong."""

from __future__ import annotations

import pytest

from gworker.config.access_format import ATOMS, Atom, access_format

GUNICORN = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'  # its default


def test_combined_is_none() -> None:
    assert access_format("combined") is None


def test_text_and_atoms_by_turns() -> None:
    found = access_format("a %(h)s%({X-Id}i)s 100%% %(D)d")
    assert found is not None
    assert found.parts == ("a ", Atom("h"), "", Atom("i", "X-Id"), " 100% ", Atom("D"), "")
    assert (str(found), found.is_json) == ("a %(h)s%({X-Id}i)s 100%% %(D)d", False)


def test_every_atom_and_the_default_of_gunicorn() -> None:
    every = access_format(" ".join(f"%({atom})s" for atom in ATOMS))
    assert every is not None
    assert [each.kind for each in every.parts if isinstance(each, Atom)] == list(ATOMS)
    assert access_format(GUNICORN) is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "combined, or a line"),
        ("a\nb", "combined, or a line"),
        ("x %(z)s", r"another atom at character 3, '%\(z\)s': there are h, l, u"),
        ("%(hh)s", "another atom at character 1"),
        ("%h", r"an atom as %\(h\)s, or %% for a percent sign, at character 1"),
        ("50%", "or %% for a percent sign, at character 3"),
        ("%(h)", "an s behind the atom"),
        ("%(h)d", "an s behind the atom"),
        ("%(D)5s", "an s behind the atom"),
        ("%({}i)s", r"\{NAME\}i, \{NAME\}o or \{NAME\}e at character 1"),
        ("%({X}z)s", r"\{NAME\}i, \{NAME\}o or \{NAME\}e"),
        ('{"a": %(h)s}', r'quotes around %\(h\)s, which is no number: "%\(h\)s"'),
        ('{"a": %({x}i)s}', r"quotes around %\(\{x\}i\)s"),
    ],
)
def test_what_is_wrong_and_where(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        access_format(text)


def test_json_is_seen() -> None:
    found = access_format('{"a\\"": "%(h)s", "n": %(s)s, "q": "x %(s)s"}')
    assert found is not None
    assert found.is_json
    assert found.bare == frozenset({3})
    for text in ('{%(h)s "a"}', '["%(h)s"]', '{"a": "%(h)s"'):
        plain = access_format(text)
        assert plain is not None
        assert not plain.is_json
