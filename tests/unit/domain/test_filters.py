"""A filter is read whole or refused with its place; nothing of it is unbounded."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.domain.errors import Invalid
from luma_memory.domain.filters import (
    COMPARISONS_MAX,
    DEPTH_MAX,
    Combined,
    Comparison,
    Filter,
    Negated,
    parse_filter,
)


def test_values_lists_and_operators() -> None:
    assert parse_filter({"source": "slack"}) == Comparison("source", "eq", "slack")
    assert parse_filter({"source": None}) == Comparison("source", "eq", None)
    assert parse_filter({"source": ["a", "b"]}) == Comparison("source", "in", ["a", "b"])
    assert parse_filter({"tags": "cat"}) == Comparison("tags", "contains", "cat")
    assert parse_filter({"metadata.a.b": 3}) == Comparison("metadata", "eq", 3, ["a", "b"])
    assert parse_filter({"importance": {"gt": 0.5, "lte": 1}}) == Combined(
        "AND", [Comparison("importance", "gt", 0.5), Comparison("importance", "lte", 1)]
    )
    since = parse_filter({"occurred_at": {"gte": "2024-03-01T10:00:00+01:00"}})
    assert since == Comparison("occurred_at", "gte", datetime(2024, 3, 1, 9, tzinfo=UTC))


def test_entries_hold_together_and_junctions_nest() -> None:
    found = parse_filter({"source": "a", "OR": [{"tags": "x"}, {"NOT": {"status": "failed"}}]})
    assert found == Combined(
        "AND",
        [
            Comparison("source", "eq", "a"),
            Combined(
                "OR",
                [
                    Comparison("tags", "contains", "x"),
                    Negated(Comparison("status", "eq", "failed")),
                ],
            ),
        ],
    )
    assert parse_filter({}) == Combined("AND", [])
    assert parse_filter({"OR": []}) == Combined("OR", [])


def _nested(depth: int) -> dict[str, Any]:
    return {"source": "a"} if depth == 1 else {"NOT": _nested(depth - 1)}


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"user_id": "somebody"}, "filters.user_id"),
        ({"project_id": "other"}, "filters.project_id"),
        ({"content": "x"}, "filters.content"),
        ({"source": {"like": "%"}}, "filters.source"),
        ({"source": {"gt": None}}, "filters.source"),
        ({"source; DROP TABLE memory_blocks": 1}, "filters.source; DROP TABLE memory_blocks"),
        ({"tags": {"gt": "a"}}, "filters.tags"),
        ({"source": 3}, "filters.source"),
        ({"source": "a\x00b"}, "filters.source"),
        ({"source": "\ud800"}, "filters.source"),
        ({"source": []}, "filters.source"),
        ({"source": "x" * 5_000}, "filters.source"),
        ({"importance": True}, "filters.importance"),
        ({"importance": 1e300}, "filters.importance"),
        ({"occurred_at": "yesterday"}, "filters.occurred_at"),
        ({"occurred_at": "0001-01-01T00:00:00+23:00"}, "filters.occurred_at"),
        ({"metadata": {"a": 1}}, "filters.metadata"),
        ({"metadata.a..b": 1}, "filters.metadata.a..b"),
        ({"metadata.a": {"eq": {"b": 1}}}, "filters.metadata.a"),
        ({"metadata.a": {"gt": True}}, "filters.metadata.a"),
        ({"AND": {"source": "a"}}, "filters.AND"),
        ({"OR": ["a"]}, "filters.OR.0"),
        ({"NOT": "a"}, "filters.NOT"),
        ({"source": {"exists": "yes"}}, "filters.source"),
    ],
)
def test_what_is_wrong_is_named(document: dict[str, Any], place: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_filter(document)
    assert (caught.value.code, caught.value.field) == ("invalid_filter", place)


def test_depth_and_size_are_bounded() -> None:
    parse_filter(_nested(DEPTH_MAX))
    parse_filter({"OR": [{"source": "a"}] * COMPARISONS_MAX})
    for document in (_nested(DEPTH_MAX + 1), {"OR": [{"source": "a"}] * (COMPARISONS_MAX + 1)}):
        with pytest.raises(Invalid):
            parse_filter(document)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
names = st.sampled_from(["AND", "OR", "NOT", "source", "tags", "metadata.a", "occurred_at", "x"])


@given(st.dictionaries(names, json_values, max_size=4))
def test_any_object_is_read_or_refused(document: dict[str, Any]) -> None:
    with suppress(Invalid):
        parse_filter(document)


@pytest.mark.parametrize(
    ("operator", "inside"),
    [
        ("lte", (True, True, False)),
        ("lt", (True, False, False)),
        ("gte", (False, True, True)),
        ("gt", (False, False, True)),
        ("eq", (False, True, False)),
        ("ne", (True, False, True)),
    ],
)
def test_a_date_without_a_time_is_the_whole_day(
    operator: str, inside: tuple[bool, bool, bool]
) -> None:
    parsed = parse_filter({"occurred_at": {operator: "2026-06-30"}})
    instants = (
        datetime(2026, 6, 29, 23, 59, 59, tzinfo=UTC),
        datetime(2026, 6, 30, 23, 59, 59, tzinfo=UTC),
        datetime(2026, 7, 1, tzinfo=UTC),
    )
    assert tuple(_holds(parsed, instant) for instant in instants) == inside


def _holds(part: Filter, instant: datetime) -> bool:
    match part:
        case Combined(_, parts):
            return all(_holds(one, instant) for one in parts)
        case Negated(inner):
            return not _holds(inner, instant)
        case Comparison(_, "gte", value):
            return bool(instant >= value)
        case Comparison(_, operator, value):
            assert operator == "lt"
            return bool(instant < value)
