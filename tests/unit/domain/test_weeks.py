"""Weeks join without a gap or an overlap, in every zone there is."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.examples import IS_THOROUGH

from luma_memory.domain.weeks import FIRST_WEEK, Week, is_time_zone, monday_of

ZONES = sorted(zone for zone in available_timezones() if is_time_zone(zone))
# Monday to Monday over a decade, changes of the clocks and of the date line among them.
MONDAYS = [date(2009, 12, 28) + timedelta(days=7 * n) for n in range(10 * 53)]
HOUR = timedelta(hours=1)
instants = st.integers(-600_000_000, 2_800_000_000).map(lambda n: datetime.fromtimestamp(n, UTC))


def mondays_to_check(clock: ZoneInfo) -> list[date]:
    """Every Monday in the thorough profile, else those around each change of the zone's offset."""
    if IS_THOROUGH:
        return MONDAYS
    offsets = [datetime.combine(monday, time(12), clock).utcoffset() for monday in MONDAYS]
    changes = [n for n in range(1, len(MONDAYS)) if offsets[n] != offsets[n - 1]]
    near = {0, *(n + away for n in changes for away in (-2, -1, 0, 1))}
    return [MONDAYS[n] for n in sorted(near) if 0 <= n < len(MONDAYS)]


def test_in_every_zone_the_weeks_of_a_decade_join_and_begin_on_their_monday() -> None:
    assert len(ZONES) > 400
    for zone in ZONES:
        clock = ZoneInfo(zone)
        for monday in mondays_to_check(clock):
            week = Week.beginning(monday, zone)
            following = Week.beginning(monday + timedelta(days=7), zone)
            assert week.starts_at < week.ends_at == following.starts_at, (zone, monday)
            assert week.starts_at.astimezone(clock).date() == monday, (zone, monday)
            before = (week.starts_at - timedelta(seconds=1)).astimezone(clock)
            assert before.date() < monday or before.fold == 0, (zone, monday)


@given(st.sampled_from(ZONES), instants)
# Midnight is skipped; comes twice; the clocks go back over it; a Friday is missing; half an hour.
@example("America/Sao_Paulo", datetime(2017, 10, 15, 3, tzinfo=UTC))
@example("America/Havana", datetime(2018, 11, 4, 4, 30, tzinfo=UTC))
@example("America/Asuncion", datetime(2019, 3, 24, 3, 30, tzinfo=UTC))
@example("Pacific/Apia", datetime(2011, 12, 30, 9, 59, tzinfo=UTC))
@example("Australia/Lord_Howe", datetime(2022, 4, 3, 15, tzinfo=UTC))
@example("Asia/Kathmandu", datetime(2026, 3, 1, 18, 15, tzinfo=UTC))
def test_an_instant_is_of_one_week_and_that_week_holds_it(zone: str, instant: datetime) -> None:
    week = Week.containing(instant, zone)
    assert week.starts_at <= instant < week.ends_at
    assert week.before.ends_at == week.starts_at
    assert Week.containing(week.starts_at, zone) == week
    assert Week.containing(week.ends_at - timedelta(microseconds=1), zone) == week


@pytest.mark.parametrize(
    ("zone", "monday", "hours"),
    [
        ("UTC", "2026-03-02", 168),
        ("Europe/Berlin", "2026-03-23", 167),
        ("Europe/Berlin", "2026-10-19", 169),
        ("Australia/Lord_Howe", "2026-09-28", 167.5),
        ("Pacific/Apia", "2011-12-26", 144),
        ("Asia/Kolkata", "2026-03-23", 168),
    ],
)
def test_a_week_has_the_hours_its_clocks_have(zone: str, monday: str, hours: float) -> None:
    week = Week.beginning(date.fromisoformat(monday), zone)
    assert (week.ends_at - week.starts_at) / HOUR == hours


def test_names_of_weeks() -> None:
    assert Week.beginning(date(2020, 12, 28), "UTC").name == "2020-W53"
    assert monday_of("2020-W53") == monday_of("2021-01-03") == date(2020, 12, 28)
    for wrong in ("2021-W53", "2026-W00", "yesterday", "2026-02-30", "2026-W1O", ""):
        with pytest.raises(ValueError, match=r".+"):
            monday_of(wrong)
    with pytest.raises(ValueError, match="not a Monday"):
        Week.beginning(FIRST_WEEK + timedelta(days=1), "UTC")


@pytest.mark.parametrize(
    "name", ["Mars/Olympus", "", "../etc/passwd", "UTC+5", "localtime", "europe/berlin", "\x00"]
)
def test_what_is_no_zone_is_none(name: str) -> None:
    assert not is_time_zone(name)
    if name not in ("localtime", "europe/berlin"):
        with pytest.raises(ValueError, match=r".+"):
            Week.beginning(date(2026, 3, 2), name)
