"""Searches with a replica beside searches without: the primary's processor time, and latency.

A primary and a standby of this machine, which share its processor: latency includes the further
round trips, and not what a second machine gains.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from benchmarks.figures import Line, Target, WrongResultError
from benchmarks.sizes import Sizes
from benchmarks.snapshots import QUERY, store_scope
from benchmarks.stack import Stack
from luma_memory.bootstrap.placement import Placement
from luma_memory.domain.clock import SystemClock
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.pipeline.recall.snapshots import Snapshots
from luma_memory.postgres.database import Database
from luma_memory.postgres.embedded.lifecycle import DEFAULT_MAJOR
from luma_memory.postgres.migrator import migrate
from luma_memory.postgres.replica import Replica
from luma_memory.providers.embedding.local import LocalEmbedder
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.search import PostgresSearchStore
from luma_memory.store.snapshots import PostgresSnapshotStore
from luma_memory.telemetry.events import Event, ReplicaRead
from luma_memory.testing.standby import Streaming, streaming

_SEARCHES: Final = 60
_LOOK_UPS: Final = 300
_PROCESSOR_MAX: Final = 0.2


@dataclass(slots=True)
class _Reads:
    """Counts where reads went."""

    used: int = 0
    others: int = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, ReplicaRead):
            self.used += event.outcome == "used"
            self.others += event.outcome != "used"


async def compare(_stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """By size of the scope, by scan and by snapshot, in turns with the replica and without."""
    lines: list[Line] = []
    embedder = await LocalEmbedder.open()
    try:
        async with streaming(DEFAULT_MAJOR) as pair:
            home = Database(pair.primary.dsn())
            await migrate(home)
            await pair.caught_up()
            reads = _Reads()
            async with _replica(pair, home, reads) as replica:
                for count in sizes.replica_scopes:
                    scope = Scope("default", f"replica-{count}")
                    await store_scope(home, scope, count, embedder.model)
                    await pair.caught_up()
                    for snapshots in (False, True):
                        lines += await _of_scope(
                            pair, home, replica, reads, scope, count, embedder, snapshots=snapshots
                        )
                store = Placement(home, None, replica, reads).read_store(PostgresSearchStore)
                lines.append(await _look_up(store, scope))
            await home.close()
    finally:
        await embedder.close()
    return lines


@asynccontextmanager
async def _replica(pair: Streaming, home: Database, reads: _Reads) -> AsyncIterator[Replica]:
    replica = Replica(Database(pair.standby.dsn(), notices_hanging=True), home, reads)
    await replica.start()
    try:
        yield replica
    finally:
        await replica.close()


async def _of_scope(
    pair: Streaming,
    home: Database,
    replica: Replica,
    reads: _Reads,
    scope: Scope,
    count: int,
    embedder: LocalEmbedder,
    *,
    snapshots: bool,
) -> Sequence[Line]:
    searches = {}
    for name, placement in (
        ("without", Placement(home, None)),
        ("with", Placement(home, None, replica, reads)),
    ):
        kept = Snapshots(placement.read_store(PostgresSnapshotStore), 1 << 30, SystemClock())
        searches[name] = _recall(placement, embedder, kept if snapshots else None)
        for _ in range(3):
            await _search(searches[name], scope)
            await kept.loaded()
    reads.used = reads.others = 0
    taken: dict[str, list[float]] = {"without": [], "with": []}
    spent = {"without": 0.0, "with": 0.0}
    for _ in range(3):
        for name, recall in searches.items():
            before = pair.primary.processor_seconds()
            for _ in range(_SEARCHES):
                started = time.perf_counter()
                await _search(recall, scope)
                taken[name].append((time.perf_counter() - started) * 1000)
            spent[name] += (pair.primary.processor_seconds() - before) * 1000
    if reads.others > reads.used / 10:
        raise WrongResultError(f"{reads.others} of the reads were not served by the replica")
    how = "snapshot" if snapshots else "scan"
    key, what = f"replica_{count}_{how}", f"replica, search of {count:,} blocks by {how}"
    searched = 3 * _SEARCHES
    return [
        _line(
            *(f"{key}_processor", f"{what}, primary's processor time"),
            *(spent["with"] / searched, spent["without"] / searched),
            None if snapshots or count < 1_000 else Target(_PROCESSOR_MAX, "low"),
        ),
        _line(f"{key}_p50", f"{what}, p50", median(taken["with"]), median(taken["without"])),
    ]


def _recall(placement: Placement, embedder: LocalEmbedder, snapshots: Snapshots | None) -> Recall:
    return Recall(
        placement.read_store(PostgresSearchStore),
        placement.read_store(lambda one: PostgresBlockStore(one, attempts_max=3)),
        embedder=embedder,
        emit=lambda _event: None,
        snapshots=snapshots,
    )


async def _search(recall: Recall, scope: Scope) -> None:
    found = await recall.search(SearchRequest(scope=scope, query=QUERY, limit=10))
    if len(found.hits) != 10:
        raise WrongResultError("a search found too little")


async def _look_up(store: Any, scope: Scope) -> Line:
    """The statement that a search without a snapshot makes on the primary in addition."""
    taken = []
    for _ in range(_LOOK_UPS):
        started = time.perf_counter()
        await store.look_up_mark(scope)
        taken.append((time.perf_counter() - started) * 1000)
    return Line("replica_look_up", "replica, look-up on the primary, p50", median(taken), "ms")


def _line(key: str, what: str, value: float, limit: float, target: Target | None = None) -> Line:
    return Line(
        key,
        what,
        value,
        "ms",
        limit=limit,
        limit_name="without",
        ratio=value / limit if limit else None,
        target=target,
    )
