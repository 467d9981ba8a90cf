"""Instants as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import typer

from luma_memory.cli.instants import parse_instant


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-03-04", datetime(2026, 3, 4, tzinfo=UTC)),
        ("2026-03-04T18:30", datetime(2026, 3, 4, 18, 30, tzinfo=UTC)),
        ("2026-03-04 18:30:05Z", datetime(2026, 3, 4, 18, 30, 5, tzinfo=UTC)),
        ("2026-03-04T18:30+02:00", datetime(2026, 3, 4, 16, 30, tzinfo=UTC)),
    ],
)
def test_iso_times_are_utc_unless_they_say_otherwise(text: str, instant: datetime) -> None:
    assert parse_instant(text) == instant


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("2h", 7_200), ("1w", 604_800)])
def test_ages_count_back_from_now(text: str, seconds: int) -> None:
    before = datetime.now(UTC)
    age = timedelta(seconds=seconds)
    assert before - age <= parse_instant(text) <= datetime.now(UTC) - age


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2h ago", "-2h", "999999w", "2026-13-01", "0001-01-01T00:00+14:00"]
)
def test_anything_else_is_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="neither a time such as"):
        parse_instant(text)
