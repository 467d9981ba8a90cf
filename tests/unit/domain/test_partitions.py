"""Which partition a scope belongs to, and the names of partitions."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.domain.errors import Invalid
from luma_memory.domain.partition import PARTITIONS_MAX, partition_number, schema_names
from luma_memory.domain.scope import Scope

NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=30)


@pytest.mark.parametrize(
    ("project", "user", "of_64", "of_1000"),
    [
        ("default", "caroline", 23, 295),
        ("default", "melanie", 48, 928),
        ("shop", "caroline", 1, 617),
        ("default", "", 60, 548),
        ("projekt-ä", "ユーザー-7", 15, 695),
        ("default", "00000000-0000-4000-8000-000000000001", 7, 383),
    ],
)
def test_the_hash_never_changes(project: str, user: str, of_64: int, of_1000: int) -> None:
    """Rows are where these numbers say: another hash would lose them."""
    scope = Scope(project, user)
    assert [partition_number(scope, count) for count in (1, 64, 1000)] == [0, of_64, of_1000]


@given(NAMES, NAMES, st.integers(1, PARTITIONS_MAX))
def test_every_scope_has_a_partition(project: str, user: str, count: int) -> None:
    scope = Scope(project, user)
    assert 0 <= partition_number(scope, count) < count
    # A project with twice as many partitions: each of the old ones is split in two.
    assert partition_number(scope, 2 * count) % count == partition_number(scope, count)


def test_similar_names_are_spread_evenly() -> None:
    """64 partitions of 16,000 users: 250 each, with a standard deviation of 15.7."""
    counts = Counter(partition_number(Scope("default", f"user-{n}"), 64) for n in range(16_000))
    assert len(counts) == 64
    assert max(abs(count - 250) for count in counts.values()) < 5 * 15.7


def test_project_and_user_are_kept_apart() -> None:
    assert partition_number(Scope("a", "bc"), 997) != partition_number(Scope("ab", "c"), 997)


def test_schemas_are_named_after_their_numbers() -> None:
    assert schema_names("luma_p", 4) == ["luma_p1", "luma_p2", "luma_p3"]


@pytest.mark.parametrize(
    ("prefix", "count"),
    [
        *(("p", count) for count in (-1, 0, 1, PARTITIONS_MAX + 1)),
        *((prefix, 2) for prefix in ("", "P", "1p", 'p"', "p; DROP", "pg_p", "ä", "p" * 41, "p\n")),
    ],
)
def test_impossible_names_and_counts_are_refused(prefix: str, count: int) -> None:
    with pytest.raises(Invalid):
        schema_names(prefix, count)
