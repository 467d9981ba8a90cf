"""Lists of users and blocks, the history, and reports of circuits, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
from tests.support.running import ingest

from luma_memory.domain.block_selection import BlockSelection
from luma_memory.domain.clock import SystemClock
from luma_memory.domain.errors import Conflict, LumaMemoryError, StoreUnavailable
from luma_memory.domain.filters import parse_filter
from luma_memory.pipeline.history.recording import HistoryRecorder
from luma_memory.pipeline.ingest import block_selections
from luma_memory.pipeline.ingest.block_selections import BlockSelections
from luma_memory.ports.circuits import CircuitNote
from luma_memory.ports.user_lists import UserPlace
from luma_memory.postgres.database import Database
from luma_memory.store.block_selections import PostgresBlockSelections
from luma_memory.store.circuits import PostgresCircuits
from luma_memory.store.history import PostgresHistory
from luma_memory.store.user_lists import PostgresUserLists, end_of_prefix
from luma_memory.telemetry.events import CacheHit, RequestHandled
from luma_memory.telemetry.history import HistoryCounts
from luma_memory.testing.sample_blocks import new_block

NOON = datetime(2026, 3, 4, 12, 0, 30, tzinfo=UTC)


async def test_users_of_one_hour_and_of_none_keep_their_order(
    database: Database, connection: asyncpg.Connection
) -> None:
    """Users who were stored before the column, and equal times, are listed once each."""
    await connection.execute(
        "INSERT INTO memory_users (user_id, last_ingest_at, active_hour)"
        " SELECT 'u' || n, '2026-03-04T10:00Z'::timestamptz + n % 3 * interval '1 minute',"
        " CASE WHEN n < 6 THEN '-infinity' ELSE '2026-03-04T10:00Z'::timestamptz END"
        " FROM generate_series(1, 12) AS n"
    )
    await connection.execute("INSERT INTO memory_users (user_id) VALUES ('never')")
    store = PostgresUserLists(database)
    seen: list[str] = []
    after: UserPlace | None = None
    while True:
        page = await store.page(
            "default", user_id=None, prefix=None, sort="last_activity", after=after, limit=2
        )
        seen += [one.user_id for one in page.users]
        if (after := page.next_place) is None:
            break
    with_hour, without = (
        ["u11", "u8", "u10", "u7", "u12", "u6", "u9"],
        ["u2", "u5", "u1", "u4", "u3"],
    )
    assert seen == [*with_hour, *without, "never"]


@pytest.mark.parametrize(
    ("prefix", "end"),
    [("a", "b"), ("aé", "aê"), ("\ud7ff", "\ue000"), ("a\U0010ffff", "b"), ("\U0010ffff", None)],
)
def test_a_prefix_ends_before_the_next_code_point(prefix: str, end: str | None) -> None:
    assert end_of_prefix(prefix) == end


async def test_counting_a_user_is_bounded(
    database: Database, connection: asyncpg.Connection
) -> None:
    await ingest(database, new_block(user_id="ann"))
    await connection.execute(
        "INSERT INTO memory_blocks (id, user_id, content, content_hash, status, created_at)"
        " SELECT gen_random_uuid(), 'ann', 'x', '', 'failed', now() FROM generate_series(1, 10000)"
    )
    page = await PostgresUserLists(database).page(
        "default", user_id="ann", prefix=None, sort="user_id", after=None, limit=1
    )
    counts = page.users[0].counts
    assert (counts.blocks, counts.is_limited) == (10_000, True)


@pytest.mark.parametrize("user_id", [None, "ann"])
async def test_a_page_examines_a_bounded_number_of_blocks(
    database: Database, user_id: str | None
) -> None:
    """Nothing is lost at the bound, whether or not the block there fits."""
    blocks = [
        new_block(f"Note {n}", user_id="ann", source="mail" if n in (0, 3, 4, 9) else "chat")
        for n in range(11)
    ]
    accepted = await ingest(database, *blocks)
    store = PostgresBlockSelections(database, examined_max=3)
    selection = BlockSelection(
        project_id="default", user_id=user_id, filters=parse_filter({"source": "mail"})
    )
    seen: list[UUID] = []
    sizes: list[int] = []
    before: UUID | None = None
    while True:
        page = await store.page(selection, before=before, limit=2)
        seen += [block.id for block in page.blocks]
        sizes.append(len(page.blocks))
        if (before := page.next_before) is None:
            break
    assert seen == [accepted[n].id for n in (9, 4, 3, 0)]
    assert 0 in sizes


async def test_a_large_selection_is_deleted_in_several_calls(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_selections, "DELETED_PER_CALL_MAX", 3)
    await ingest(database, *(new_block(f"n {n}", user_id=f"u{n % 3}") for n in range(7)))
    selections = BlockSelections(PostgresBlockSelections(database))
    selection = BlockSelection(project_id="default")
    left = await selections.count(selection)
    deleted = []
    while left.count:
        await ingest(database, new_block(f"later {left.count}", user_id="u0"))
        done = await selections.delete(selection, left)
        with pytest.raises(Conflict):
            await selections.delete(selection, left)
        deleted.append(done.deleted)
        left = done.left
    assert deleted == [3, 3, 1]
    assert (await selections.count(selection)).count == 3


class At(SystemClock):
    """A clock that stands."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now


def recorder(
    database: Database, counts: HistoryCounts, clock: At, reads: list[str]
) -> HistoryRecorder:
    async def states() -> Mapping[str, float]:
        reads.append("states")
        return {"jobs_pending": len(reads), "workers": 2}

    return HistoryRecorder(PostgresHistory(database), counts, states, clock=clock)


async def test_history_sums_over_processes_and_reads_states_once(
    database: Database, connection: asyncpg.Connection
) -> None:
    now = await connection.fetchval("SELECT date_trunc('minute', clock_timestamp()) + '5 s'")
    reads: list[str] = []
    processes = []
    for _ in range(2):
        counts = HistoryCounts()
        counts(RequestHandled("POST", "/blocks", 202, 3.5))
        counts(CacheHit(0.0, is_checked=True))
        processes.append(recorder(database, counts, At(now), reads))
    for process in processes:
        await process.store()
        await process.store()
    # The minute may have passed in between.
    history = await processes[0].read("hour", since=None, until=now + timedelta(hours=2))
    assert len(history.times) in (720, 721)
    assert history.series["requests"][-1] == 2
    assert history.series["cache_hits"][-1] == 2
    assert history.series["accept_ms_p50"][-1] == pytest.approx(3.5)
    assert history.series["search_ms_p50"][-1] is None
    assert history.series["workers"][-1] == 2
    assert history.series["requests"][0] is None
    assert len(reads) < 3


async def test_history_keeps_a_bounded_number_of_rows(
    database: Database, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "SELECT add_memory_history('{\"requests\": 1}', '{\"workers\": 1}', at) FROM"
        " generate_series($1::timestamptz - interval '2 days', $1, interval '7 minutes') AS at",
        NOON,
    )
    rows = await connection.fetch(
        "SELECT resolution, count(*) AS rows, min(at) AS oldest,"
        " sum((sums ->> 'requests')::int) AS n"
        " FROM memory_history GROUP BY resolution ORDER BY resolution"
    )
    hours, minutes = rows
    assert (hours["rows"], hours["n"]) == (48, 412)
    assert minutes["rows"] <= 24 * 60 / 7 + 1
    assert minutes["oldest"] >= NOON - timedelta(days=1, minutes=2)
    history = await recorder(database, HistoryCounts(), At(NOON), []).read(
        "minute", since=NOON - timedelta(minutes=14), until=None
    )
    assert history.times[0] == NOON.replace(minute=46, hour=11, second=0)
    assert [value for value in history.series["requests"] if value] == [1, 1]


async def test_counts_wait_while_the_database_is_unavailable() -> None:
    class Away:
        async def add(self, sums: Mapping[str, float], peaks: Mapping[str, float]) -> bool:
            raise StoreUnavailable("away")

        async def read(self, *_args: object, **_named: object) -> list[object]:
            raise LumaMemoryError("not used")

    counts = HistoryCounts()
    counts(CacheHit(0.0, is_checked=True))
    store: object = Away()
    process = HistoryRecorder(store, counts, dict, clock=At(NOON))  # type: ignore[arg-type]
    await process.store()
    assert counts.take() == {"cache_hits": 1}


async def test_the_last_error_of_a_provider_stays_after_its_recovery(database: Database) -> None:
    circuits = PostgresCircuits(database)
    for _ in range(5):
        await circuits.note("m @a", CircuitNote("away", code="provider_timeout", reason="late"))
    (report,) = await circuits.reports(["m @a"])
    assert (report.state, report.failures, report.last_code) == ("away", 5, "provider_timeout")
    assert report.since is not None
    assert report.retry_at is not None
    await circuits.note("m @a", CircuitNote("well", is_probe=True))
    (report,) = await circuits.reports(["other"])
    assert (report.state, report.since, report.retry_at) == ("closed", None, None)
    assert (report.last_code, report.last_reason) == ("provider_timeout", "late")
