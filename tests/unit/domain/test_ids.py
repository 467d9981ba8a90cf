"""Block ids are UUIDv7 and rise."""

from __future__ import annotations

import itertools
import time
from uuid import RFC_4122, UUID

import pytest

from luma_memory.domain.ids import IdMaker


def _milliseconds(made: UUID) -> int:
    return made.int >> 80


def test_an_id_is_a_version_7_uuid_of_now() -> None:
    before = time.time_ns() // 1_000_000
    made = IdMaker().make()
    after = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, RFC_4122)
    assert before <= _milliseconds(made) <= after


def test_ids_rise_however_many_are_made_in_one_millisecond() -> None:
    maker = IdMaker()
    ids = [maker.make() for _ in range(20_000)]
    assert all(earlier < later for earlier, later in itertools.pairwise(ids))
    assert {made.version for made in ids} == {7}
    assert {made.variant for made in ids} == {RFC_4122}


def test_ids_rise_on_a_clock_that_stands_or_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    start = 1_700_000_000_000
    times = itertools.chain([start] * 5_000, [start - 60_000] * 5_000, [start + 10])
    monkeypatch.setattr(time, "time_ns", lambda: next(times) * 1_000_000)
    maker = IdMaker()
    ids = [maker.make() for _ in range(10_001)]
    assert all(earlier < later for earlier, later in itertools.pairwise(ids))
    # A millisecond holds 4,096; the counter continues into the next ones and no further.
    assert _milliseconds(ids[-2]) == start + 2
    assert _milliseconds(ids[-1]) == start + 10


def test_two_makers_do_not_make_the_same() -> None:
    one, other = IdMaker(), IdMaker()
    assert len({maker.make() for maker in (one, other) for _ in range(5_000)}) == 10_000
