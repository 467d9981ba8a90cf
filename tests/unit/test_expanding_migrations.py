"""Migrations only add: the previous version must keep working on the new schema.

Tables that a migration makes itself are its own to shape. The first one is left out: it turns
whatever was there before into this schema.
"""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from luma_memory.postgres.migrator import migration_names

AFTER_THE_FIRST = migration_names()[1:]
# What takes something away from statements that were right before. A constraint counts, too: what
# the version before still writes would be refused.
_TAKES_AWAY = re.compile(
    r"\bDROP\s+(?:TABLE|COLUMN|FUNCTION|TYPE|SCHEMA|VIEW)\b|\bRENAME\b|\bALTER\s+COLUMN\s+\S+\s+"
    r"(?:SET\s+NOT\s+NULL|(?:SET\s+DATA\s+)?TYPE)\b|\bADD\s+CONSTRAINT\b|\bTRUNCATE\b",
    re.IGNORECASE,
)
_COLUMN_WITHOUT_DEFAULT = re.compile(
    r"\bADD\s+COLUMN\s+(?:IF\s+NOT\s+EXISTS\s+)?(?![^,;]*\bDEFAULT\b)[^,;]*\bNOT\s+NULL\b",
    re.IGNORECASE,
)


# Removals that break no client, each with its reason.
REASONED = {
    "0005_door": ["ADD CONSTRAINT"],  # no version before wrote keys
    # Replaced in the same transaction by one that takes the same calls.
    "0008_traces": ["DROP FUNCTION"],
    "0010_repeated_blocks": ["DROP FUNCTION"],
    # Only columns that an operator added under the names of the new ones.
    "0019_items": ["RENAME"],
    # Wider than the ones they replace.
    "0020_webhooks": ["ADD CONSTRAINT", "ADD CONSTRAINT"],
    "0031_partition_users": ["ADD CONSTRAINT"],
}


def breaks(sql: str) -> list[str]:
    """What the version before would stumble over."""
    sql = re.sub(r"--.*", "", sql)
    made = set(re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", sql))
    found: list[str] = []
    is_made = None
    for statement in re.split(r";\s*\n", sql):
        altered = re.search(r"ALTER TABLE (?:ONLY )?(\w+)", statement)
        if altered is not None and altered.group(1) in made:
            continue
        # Who waits to write while an index is made has read the table: an index dropped after that
        # waits for them, and they for it. The migration loses each of its tries.
        is_made = is_made or re.search(
            r"\bCREATE\s+(?:UNIQUE\s+)?INDEX\b", statement, re.IGNORECASE
        )
        if is_made:
            found += re.findall(r"\bDROP\s+INDEX\b", statement, re.IGNORECASE)
        found += _TAKES_AWAY.findall(statement) + _COLUMN_WITHOUT_DEFAULT.findall(statement)
    return found


@pytest.mark.parametrize("name", AFTER_THE_FIRST)
def test_a_migration_takes_nothing_away(name: str) -> None:
    sql = (files("luma_memory.migrations") / f"{name}.sql").read_text(encoding="utf-8")
    assert breaks(sql) == REASONED.get(name, [])


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE memory_blocks DROP COLUMN title;\n",
        "ALTER TABLE memory_blocks RENAME COLUMN title TO name;\n",
        "ALTER TABLE memory_blocks ADD COLUMN weight real NOT NULL;\n",
        "ALTER TABLE memory_blocks ALTER COLUMN title SET NOT NULL;\n",
        "ALTER TABLE memory_jobs ADD CONSTRAINT short CHECK (length(last_error) < 9);\n",
        "DROP TABLE memory_usage;\n",
        "CREATE INDEX memory_blocks_new ON memory_blocks (id);\nDROP INDEX memory_blocks_old;\n",
    ],
)
def test_what_would_break_the_version_before_is_noticed(statement: str) -> None:
    assert breaks(f"SELECT 1;\n{statement}")


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE memory_blocks ADD COLUMN weight real NOT NULL DEFAULT 0;\n",
        "ALTER TABLE memory_blocks ADD COLUMN IF NOT EXISTS note text, ADD COLUMN b int;\n",
        "CREATE TABLE IF NOT EXISTS t (a int NOT NULL);\nALTER TABLE t RENAME COLUMN a TO b;\n",
        "DROP INDEX IF EXISTS memory_blocks_old;\n",
        "DROP INDEX IF EXISTS blocks_old;\nCREATE INDEX blocks_new ON memory_blocks (id);\n",
    ],
)
def test_what_only_adds_passes(statement: str) -> None:
    assert breaks(statement) == []
