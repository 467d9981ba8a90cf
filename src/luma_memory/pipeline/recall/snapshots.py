"""Snapshots of frequently searched scopes, each checked before use.

PostgreSQL is the source of truth. One lookup per search returns the scope's version and the changes
since the snapshot's; with these the snapshot equals the scope at the time of the lookup. If
the log does not reach back, the search scans and the snapshot is loaded again.

Items and other blocks are in snapshots of their own: neither makes searches of the other slower.
Reading an item can extend its time to live, which is not logged: rows of items that expire are read
again before they are left out.

A scope is loaded at its second search within ten minutes, in the background, and dropped after ten
minutes without one, if others need the memory, and once its user is erased.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, TypeVar

import numpy as np

from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.domain.known_marks import marks_known
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import (
    EVERY_BLOCK,
    NEVER,
    LookUp,
    RowKind,
    ScopeChanges,
    ScopeMark,
    ScopeRows,
    Selection,
    every_row,
)
from luma_memory.pipeline.recall.scope_layout import MatchedRows, Similarities
from luma_memory.pipeline.recall.scope_snapshot import ScopeSnapshot, View, snapshot_of
from luma_memory.ports.search import SnapshotStore
from luma_memory.telemetry.events import Emit, Event, SnapshotOutcome, SnapshotsKept

IDLE_SECONDS: Final = 600.0
# Time after an erasure until every process has dropped the scope.
SWEEP_SECONDS: Final = 5.0
PAGE_ROWS: Final = 2_000
# Scopes that were searched once; only their names are kept.
_TOUCHED_MAX: Final = 10_000
# A scope that exceeded the memory limit is not loaded again for this long.
_REFUSED_SECONDS: Final = 60.0
# Maximum loads of one scope until it has few enough changes to catch up with.
_LOADS_MAX: Final = 3
# Items that expire this soon are read again together with those that have expired.
_EXPIRY_MICROSECONDS: Final = 1_000_000
# From this many rows on, arrays are computed in a thread, not to block the event loop.
_THREAD_ROWS: Final = 5_000
_NOTHING: Final = ScopeMark(version=-1, moved_at=None)
Outcome = Literal["used", "updated", "scanned", "loaded", "packed", "evicted"]
ResultT = TypeVar("ResultT")


def _ignore(_event: Event) -> None:
    """Without a subscriber."""


@dataclass(frozen=True, slots=True)
class _Key:
    scope: Scope
    model: str
    kind: RowKind


@dataclass(slots=True)
class _Entry:
    snapshot: ScopeSnapshot
    used_at: float
    # Locked while a new snapshot is derived from this one.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    packing: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class Current:
    """A snapshot that equals its scope, the rows a search reads, and the keys of its names."""

    snapshot: ScopeSnapshot
    view: View
    name_keys: array[int]

    def matched(self, terms: Sequence[int]) -> MatchedRows:
        """The rows that have a question's terms. terms: indices."""
        postings = [self.snapshot.posting(term, self.view) for term in terms]
        return MatchedRows(self.view.arrangement, postings, self.name_keys)

    def similarities(self, vector: Sequence[float]) -> Similarities:
        """Of all rows. vector: as the embedder returns it."""
        # PostgreSQL compares halves, so the question's vector is rounded as the stored ones are.
        question = np.asarray(vector, dtype=np.float32).astype(np.float16)
        found = self.snapshot.similarities(question)
        return Similarities(found[self.view.passage_vectors], found[self.view.window_vectors])


@dataclass(slots=True)
class SnapshotCounts:
    """Outcomes of the searches that requested a snapshot."""

    used: int = 0
    updated: int = 0
    scanned: int = 0
    loaded: int = 0
    packed: int = 0
    evicted: int = 0


@dataclass(slots=True)
class Snapshots:
    """The snapshots of one process, at most `bytes_max` together."""

    store: SnapshotStore
    bytes_max: int
    clock: Clock
    emit: Emit = _ignore
    counts: SnapshotCounts = field(default_factory=SnapshotCounts)
    _entries: OrderedDict[_Key, _Entry] = field(default_factory=OrderedDict)  # least used first
    _touched: OrderedDict[_Key, float] = field(default_factory=OrderedDict)
    _refused: dict[_Key, float] = field(default_factory=dict)  # when the memory limit was exceeded
    _loads: dict[_Key, asyncio.Task[None]] = field(default_factory=dict)
    _sweeper: asyncio.Task[None] | None = None

    async def current(
        self,
        scope: Scope,
        model: str,
        names: Sequence[str],
        selection: Selection = EVERY_BLOCK,
    ) -> Current | None:
        """The current state of the scope; None if the search has to scan it.

        Raises StoreUnavailable.
        """
        key = _Key(scope, model, selection.kind)
        entry = self._entries.get(key)
        if entry is None:
            self._touch(key)
            self._count("scanned")
            return None
        entry.used_at = self.clock.monotonic()
        self._entries.move_to_end(key)
        before = entry.snapshot
        found, until = await self._looked_up(key, before, names, selection)
        if found.changes is None:
            if self._entries.get(key) is entry and entry.snapshot is before:
                self._drop(key)
                self._load(key)
            self._count("scanned")
            return None
        after = await self._up_to_date(key, entry, before, found, found.changes, until)
        if after is None:
            self._count("scanned")
            return None
        self._count("used")
        view = after.view
        if selection != every_row(selection.kind):
            view = await _in_thread(after.row_count, partial(after.seen, selection, found.matching))
        return Current(after, view, found.name_keys)

    async def _looked_up(
        self, key: _Key, before: ScopeSnapshot, names: Sequence[str], selection: Selection
    ) -> tuple[LookUp, int]:
        """The scope's state since a snapshot, and until when its rows' expiries are known."""
        found = await self.store.look_up(key.scope, key.model, names, before.mark, selection)
        if key.kind == "blocks":
            return found, NEVER
        if found.changes is None or found.read_at < before.next_expiry:
            return found, before.next_expiry
        until = found.read_at + _EXPIRY_MICROSECONDS
        again = before.expired(until)
        mark = before.mark
        return await self.store.look_up(key.scope, key.model, names, mark, selection, again), until

    async def _up_to_date(
        self,
        key: _Key,
        entry: _Entry,
        before: ScopeSnapshot,
        found: LookUp,
        changes: ScopeChanges,
        until: int,
    ) -> ScopeSnapshot | None:
        """The snapshot as of the lookup or later; None if it was replaced by another meanwhile.

        before: the mark passed to the lookup. until: as `_looked_up` returns it, for `before`. One
        search at a time applies changes of a scope.
        """
        if _holds_at(before, found):
            return before
        async with entry.lock:
            kept = entry.snapshot
            if kept.mark.moved_at != found.mark.moved_at:
                return None
            if _holds_at(kept, found):
                return kept
            if kept.mark.version > found.mark.version:
                # Another search did a later lookup; a filter's selection is as of this lookup.
                is_later = found.matching is None and found.read_at < kept.next_expiry
                return kept if is_later else None
            if found.read_at >= until:
                return None
            # `kept` may be later than `before`: the changes since that include those since this,
            # and none of its rows expires earlier.
            after = await _in_thread(kept.row_count, partial(_applied, kept, found, changes))
            entry.snapshot = after
        self._count("updated")
        self._evict_for(key, entry)
        if after.is_loose and entry.packing is None:
            entry.packing = asyncio.create_task(self._pack(entry))
        return after

    async def _pack(self, entry: _Entry) -> None:
        """Pack the snapshot while no search waits for it; those with new changes then wait."""
        try:
            async with entry.lock:
                snapshot = entry.snapshot
                entry.snapshot = await _in_thread(snapshot.row_count, snapshot.packed)
                self._count("packed")
        finally:
            entry.packing = None

    async def forget(self, scope: Scope) -> int:
        """Drop what is kept of an erased scope; how many snapshots. A load in progress ends."""
        for key in [key for key in self._loads if key.scope == scope]:
            self._loads[key].cancel()
        dropped = [key for key in self._entries if key.scope == scope]
        for key in dropped:
            self._drop(key)
        for key in [key for key in self._touched if key.scope == scope]:
            del self._touched[key]
        return len(dropped)

    def holds(self, scope: Scope) -> bool:
        """Whether anything of the scope is kept here."""
        return any(key.scope == scope for key in self._entries)

    @property
    def size_bytes(self) -> int:
        return sum(entry.snapshot.size_bytes for entry in self._entries.values())

    async def loaded(self) -> None:
        """Wait for loads in progress."""
        await asyncio.gather(*self._loads.values(), return_exceptions=True)

    async def sweep(self) -> None:
        """Drop snapshots of erased users, and those that no search has used for a while."""
        now = self.clock.monotonic()
        self._refused = {
            key: since for key, since in self._refused.items() if now - since < _REFUSED_SECONDS
        }
        for key in [
            key for key, entry in self._entries.items() if now - entry.used_at > IDLE_SECONDS
        ]:
            self._drop(key)
        read = {key.scope: entry.snapshot.read_at for key, entry in self._entries.items()}
        if read:
            for scope in await self.store.erased(read):
                await self.forget(scope)

    async def close(self) -> None:
        """Cancel loads and let go of all snapshots. Idempotent."""
        packings = [entry.packing for entry in self._entries.values() if entry.packing]
        tasks = [*self._loads.values(), *packings, *([self._sweeper] if self._sweeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._entries.clear()
        self._sweeper = None

    def _touch(self, key: _Key) -> None:
        now = self.clock.monotonic()
        earlier = self._touched.get(key)
        self._touched[key] = now
        self._touched.move_to_end(key)
        if len(self._touched) > _TOUCHED_MAX:
            self._touched.popitem(last=False)
        if earlier is not None and now - earlier <= IDLE_SECONDS:
            self._load(key)

    def _load(self, key: _Key) -> None:
        """Begin to load the scope unless that is in progress, or it recently exceeded the limit."""
        if key in self._loads or key in self._refused:
            return
        task = asyncio.create_task(self._loaded(key))
        self._loads[key] = task
        task.add_done_callback(lambda done: self._on_loaded(key, done))
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep_forever())

    def _on_loaded(self, key: _Key, task: asyncio.Task[None]) -> None:
        self._loads.pop(key, None)
        if not task.cancelled():
            task.exception()  # retrieved; the next search scans and begins another load

    async def _loaded(self, key: _Key) -> None:
        with marks_known():
            await self._load_whole(key)

    async def _load_whole(self, key: _Key) -> None:
        for _ in range(_LOADS_MAX):
            every = every_row(key.kind)
            start = await self.store.look_up(key.scope, key.model, (), _NOTHING, every)
            if start.mark.version == 0:
                return
            pages = await self._pages(key)
            if pages is None:
                self._refused[key] = self.clock.monotonic()
                return
            rows = sum(page.row_count for page in pages)
            read = await _in_thread(rows, partial(snapshot_of, pages, start.mark, start.read_at))
            found, until = await self._looked_up(key, read, (), every)
            if found.changes is None or found.read_at >= until:
                continue
            after = await _in_thread(rows, partial(_applied, read, found, found.changes))
            entry = _Entry(after, self.clock.monotonic())
            self._entries[key] = entry
            self._evict_for(key, entry)
            self._count("loaded")
            return

    async def _pages(self, key: _Key) -> Sequence[ScopeRows] | None:
        """All rows of the scope; None if they would not fit."""
        pages: list[ScopeRows] = []
        size, after = 0, None
        while True:
            page = await self.store.page(
                key.scope, key.model, key.kind, after=after, limit=PAGE_ROWS
            )
            pages.append(page.rows)
            size += len(page.rows.vectors) + 8 * len(page.rows.term_indices)
            if size > self.bytes_max:
                return None
            after = page.next_after
            if after is None:
                return pages

    def _evict_for(self, key: _Key, entry: _Entry) -> None:
        """Drop those used longest ago until the rest fits."""
        if self._entries.get(key) is not entry:  # dropped meanwhile
            return
        while self._entries and self.size_bytes > self.bytes_max:
            evicted, _ = self._entries.popitem(last=False)
            self._refused[evicted] = self.clock.monotonic()
            self._count("evicted")
        self._report()

    def _drop(self, key: _Key) -> None:
        if self._entries.pop(key, None) is not None:
            self._report()

    def _count(self, outcome: Outcome) -> None:
        setattr(self.counts, outcome, getattr(self.counts, outcome) + 1)
        self.emit(SnapshotOutcome(outcome))

    def _report(self) -> None:
        self.emit(SnapshotsKept(len(self._entries), self.size_bytes))

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self.sweep()
            except LumaMemoryError:
                continue  # the database is away: searches fail as well


def _holds_at(snapshot: ScopeSnapshot, found: LookUp) -> bool:
    """Whether the snapshot equals the scope at the moment of the look-up."""
    return snapshot.mark == found.mark and (
        snapshot.read_at <= found.read_at < snapshot.next_expiry
    )


def _applied(snapshot: ScopeSnapshot, found: LookUp, changes: ScopeChanges) -> ScopeSnapshot:
    after = snapshot.at(found.mark, found.read_at, changes)
    _ = after.next_expiry, after.size_bytes  # made here, and kept with it
    return after


async def _in_thread(rows: int, make: Callable[[], ResultT]) -> ResultT:
    return make() if rows < _THREAD_ROWS else await asyncio.to_thread(make)
