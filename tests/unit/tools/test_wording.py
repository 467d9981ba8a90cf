"""The wording check finds avoided words where people read them, and only there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tools.wording import Finding, Glossary

GLOSSARY = Glossary(
    terms=[
        {"avoid": "told", "use": "notified"},
        {"avoid": "under way", "use": "online"},
        {"avoid": "is answered", "use": "gets a response", "in": "prose"},
        {"avoid": "held", "use": "claimed", "in": "identifiers"},
    ],
    exceptions=[{"path": "src/wire", "avoid": "told", "why": "a name on the wire"}],
    skipped=[],
    strings_are_data=["tests"],
)


def found(text: str, path: str = "src/module.py") -> list[tuple[int, str]]:
    return [(finding.line, finding.text) for finding in GLOSSARY.findings(path, text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1  # was told", [(1, "told")]),
        ('"""Line.\n\nIt is told.\n"""', [(3, "told")]),
        ('raise E(f"told {who}")', [(1, "told")]),
        ("# a request is\n# answered here", [(1, "is answered")]),
        ('"""It goes under\n    way."""', [(1, "under way")]),
        ("def is_told(): ...", [(1, "told")]),
        ("class ToldUser: ...", [(1, "told")]),
        ("under_way = 1", [(1, "under_way")]),
        ("held = 1  # a lock is held", [(1, "held")]),
        ("stolder = untold = 1  # toldest", []),
        ("is_answered = 1", []),
        ("x = 1  # is\ny = 2  # answered", []),
    ],
)
def test_comments_strings_and_names_of_python(text: str, expected: list[tuple[int, str]]) -> None:
    assert found(text) == expected


def test_test_data_may_say_anything_but_docstrings_may_not() -> None:
    text = '"""Told."""\nadd("she told me")\nadd(\n    """told"""\n)\n# told\n'
    assert found(text, "tests/test_it.py") == [(1, "told"), (6, "told")]


def test_sql_is_comments_and_names() -> None:
    text = "SELECT held -- is answered\nFROM t WHERE is_answered = 'under way'"
    assert found(text, "a.sql") == [(1, "is answered"), (1, "held"), (2, "under way")]


def test_documents_are_prose_throughout() -> None:
    assert found("# Told\n\nheld, under\nway", "docs/a.md") == [(1, "told"), (3, "under way")]


def test_a_file_name_is_checked_like_an_identifier() -> None:
    assert found("x = 1", "src/told_users.py") == [(1, "told")]
    assert found("x = 1", "src/wire/told.py") == []


def test_an_exception_holds_for_its_path_only() -> None:
    assert found("told = 1", "src/wire/blocks.py") == []
    assert found("told = 1", "src/wireless.py") == [(1, "told")]


def test_a_finding_names_the_place_and_the_replacement() -> None:
    assert str(Finding("a.py", 3, "told", "notified")) == "a.py:3: 'told': use notified"


def test_every_term_of_the_glossary_has_a_replacement_and_every_exception_a_reason() -> None:
    glossary = Glossary.load()
    root = Path(__file__).parents[3]
    for term in glossary.terms:
        re.compile(term["avoid"])
        assert term["use"]
        assert term.keys() <= {"avoid", "use", "in"}
    for exception in glossary.exceptions:
        assert exception["why"]
        assert (root / exception["path"]).exists(), exception
    for path in glossary.skipped:
        assert (root / path).exists(), path
