"""Times as sources write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from luma_memory.importers.texts import instant


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (1772701200, "2026-03-05T09:00:00"),
        ("1772701200", "2026-03-05T09:00:00"),
        ("1772701200.25", "2026-03-05T09:00:00.250000"),
        (1712051230945, "2024-04-02T09:47:10.945000"),
        ("1712051230945", "2024-04-02T09:47:10.945000"),  # ISO 8601 would be 5 December 1712
        (20260305, "2026-03-05T00:00:00"),
        ("20260305", "2026-03-05T00:00:00"),
        ("20260305T0900", "2026-03-05T09:00:00"),
        ("202603050900", "2026-03-05T09:00:00"),  # as milliseconds it would be of 1976
        ("20260305090007", "2026-03-05T09:00:07"),
        ("1969-07-20", "1969-07-20T00:00:00"),
    ],
)
def test_numbers_and_dates(written: object, expected: str) -> None:
    assert instant(written) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "written", [2026, "2026", 45_000, "45000.5", 99_999_999, "20261305143000", True, "", None]
)
def test_another_number_is_no_time(written: object) -> None:
    assert instant(written) is None
