"""A statement that raises a scope's version logs it; one that changes what search reads raises it.

A reader brings its copy of a scope up to date from the log, so the only way to a stale result is
a change that the log does not have. The lists below name every statement of both kinds: a new one
has to be entered here, with its log entry.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from luma_memory.postgres.sql_files import SqlFile

PACKAGE = Path(__file__).parents[2] / "src" / "luma_memory"
DEFINITIONS = PACKAGE / "migrations" / "definitions"
_FUNCTION = re.compile(
    r"CREATE OR REPLACE FUNCTION (\w+)\s*\(.*?AS \$body\$(.*?)\$body\$;", re.DOTALL
)


def _statements() -> dict[str, str]:
    """Bodies of functions and the statements of repositories, without comments."""
    found: dict[str, str] = {}
    for file in sorted(DEFINITIONS.glob("*.sql")):
        for name, body in _FUNCTION.findall(file.read_text(encoding="utf-8")):
            found[name] = found.get(name, "") + body
    for package in ("store", "queue"):
        for file in sorted((PACKAGE / package).glob("*.sql")):
            found |= dict(SqlFile(f"luma_memory.{package}.{file.stem}").items())
    return {name: re.sub(r"--[^\n]*", "", text) for name, text in found.items()}


STATEMENTS = _statements()
_RAISES = re.compile(r"\bversion\s*=\s*memory_next_version\(")
# Passages, and what else of a block decides whether the scan reads them.
_CHANGES = re.compile(
    r"\b(?:INSERT INTO|UPDATE|DELETE FROM)\s+memory_passages\b|\bsuperseded_at\s*=", re.IGNORECASE
)
_CALLS = re.compile(r"\braise_memory_versions?\(")

RAISING = {
    "ingest_memory_blocks",
    "raise_memory_version",
    "raise_memory_versions",
    "retry_memory_jobs",
    "write_memory_items",
}
CALLING = {
    "bump_scope_version",
    "complete_memory_enrichments",
    "decide_memory_relation",
    "delete_memory_block",
    "edit_memory_block",
    "enqueue_waiting_memory_blocks",
    "fail_memory_blocks",
    "forget_memory_windows",
    "import_memory_rows",
    "keep_memory_enrichment",
    "relate_memory_block",
    "settle_memory_supersession",
    "store_memory_vectors",
    "store_memory_windows",
}
CHANGING = {
    "complete_memory_enrichments",
    "delete_memory_block",
    "drop_memory_item",
    "edit_memory_block",
    "forget_memory_windows",
    "ingest_memory_blocks",
    "move_memory_vectors",
    "refresh_items",
    "settle_memory_supersession",
    "store_memory_vectors",
    "store_memory_windows",
    "write_memory_items",
}
# Changes passages and does not raise the version, each with the reason.
UNLOGGED = {
    "drop_memory_item": "write_memory_items raises and logs, or every reader sees the item expire",
    "refresh_items": "a reader asks for the rows of items that expire before it leaves them out",
    "move_memory_vectors": "notes its time in memory_scope_models; the caller raises the version",
}


def test_every_statement_that_raises_a_version_is_listed() -> None:
    assert {name for name, text in STATEMENTS.items() if _RAISES.search(text)} == RAISING
    assert {name for name, text in STATEMENTS.items() if _CALLS.search(text)} == CALLING


@pytest.mark.parametrize("name", sorted(RAISING))
def test_raising_a_version_keeps_the_one_before_and_logs(name: str) -> None:
    """The entry is written by a later part of the function, which nothing leaves before."""
    text = STATEMENTS[name]
    raises = [match.end() for match in _RAISES.finditer(text)]
    assert len(re.findall(r"\bprevious\s*=\s*(?:u\.)?version\b", text)) == len(raises)
    entries = list(re.finditer(r"\bINSERT INTO memory_changes \(([^)]*)\)", text))
    assert len(entries) == len(raises)
    for raised, entry in zip(raises, entries, strict=True):
        assert entry[1].endswith("block_ids, has_items")
        assert not re.search(r"\bRETURN\b(?!\s+(?:NEXT|QUERY))", text[raised : entry.start()])


def test_every_statement_that_changes_what_search_reads_is_listed_and_logs() -> None:
    changing = {name for name, text in STATEMENTS.items() if _CHANGES.search(text)}
    assert changing == CHANGING
    assert changing - RAISING - CALLING == set(UNLOGGED)


# What else is listed: a replica serves lists of blocks and relations by the version.
_WRITES = re.compile(
    r"\b(?:INSERT INTO|UPDATE|DELETE FROM)\s+memory_(?:blocks|relations)\b", re.IGNORECASE
)
# Writes blocks or relations and does not raise the version, each with the reason.
UNSEEN = {
    "admit_memory_relations": "when the block was last related, which no read shows",
    "drop_memory_item": "as above",
    "enqueue_memory_backfill": "when a missing step is due, which no read shows",
    "refresh_items": "a replica serves no items that have a time to live",
    "request_memory_backfill": "when a missing step is due, which no read shows",
    "unrelate_memory_block": "those that change or delete the block call it and raise",
}


def test_every_statement_that_changes_a_list_raises_the_version() -> None:
    writing = {name for name, text in STATEMENTS.items() if _WRITES.search(text)}
    assert writing - RAISING - CALLING == set(UNSEEN)
