"""Write, read and search items."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Final

from luma_memory.concurrency.contention import ContentionAware
from luma_memory.concurrency.parted import Batches, parted
from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import (
    Conflict,
    Invalid,
    NotFound,
    PreconditionFailed,
    RequestError,
    StoreContended,
    is_outage,
)
from luma_memory.domain.ids import IdMaker
from luma_memory.domain.item import (
    DeleteItem,
    GetItem,
    Item,
    ItemName,
    ItemOperation,
    ItemPage,
    ItemWrite,
    ListNamespaces,
    NamespacePage,
    OperationResult,
    PreparedWrite,
    PreparedWrites,
    PutItem,
    SearchItems,
    Written,
)
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import ItemSelection
from luma_memory.pipeline.ingest.indexing import index_passages
from luma_memory.pipeline.ingest.ingest import INLINE_CHARACTERS_MAX
from luma_memory.pipeline.items.item_text import item_text
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.ports.blocks import BlockStore
from luma_memory.ports.items import ItemStore
from luma_memory.ports.jobs import JobSignal
from luma_memory.telemetry import spans

# Per statement; a larger request is a separate statement. Positions allow up to 1,000.
STATEMENT_REQUESTS_MAX: Final = 200
STATEMENT_WRITES_MAX: Final = 1_000
BATCH_STATEMENTS_MAX: Final = 2


class Items:
    """The items of all scopes. All methods raise StoreUnavailable.

    Writes that arrive while a statement is in flight share the next one.
    """

    def __init__(
        self,
        store: ItemStore,
        block_store: BlockStore,
        recall: Recall,
        *,
        clock: Clock,
        signal: JobSignal,
        part_of: Callable[[Scope], int] | None = None,
    ) -> None:
        """part_of: as in `Ingest`."""
        self._store = store
        self._part_of = part_of
        self._recall = recall
        self._clock = clock
        self._signal = signal
        self._ids = IdMaker()
        self._single = self._statements(block_store, batches_max=1)
        self._batches = self._statements(block_store, batches_max=BATCH_STATEMENTS_MAX)

    @spans.traced("put item")
    async def put(self, scope: Scope, write: PutItem, *, changed_by: str) -> Written:
        """Create or replace an item; committed when this returns.

        Raises Conflict (code item_exists) and PreconditionFailed (code item_changed) when the
        condition does not hold, Invalid for an index that cannot be read.
        """
        return await self._write(scope, write, changed_by)

    @spans.traced("delete item")
    async def delete(self, scope: Scope, write: DeleteItem, *, changed_by: str) -> Written:
        """Delete an item; one that is not there is no error without a condition."""
        return await self._write(scope, write, changed_by)

    async def get(self, scope: Scope, read: GetItem) -> Item:
        """One item. Raises NotFound (code item_not_found)."""
        (item,) = await self._store.read(scope, [read])
        if item is None:
            raise NotFound("There is no such item of this user", code="item_not_found")
        return item

    @spans.traced("search items")
    async def search(self, scope: Scope, search: SearchItems) -> ItemPage:
        """Items of a namespace prefix: by meaning where there is a query, else in their order."""
        if search.query is None:
            return await self._store.page(scope, search)
        found = await self._recall.rank(
            SearchRequest(
                scope=scope,
                query=search.query,
                limit=search.offset + search.limit,
                items=ItemSelection(search.prefix, search.is_exact, search.filter or None),
                use_relations=False,
            )
        )
        ranked = found.ranked[search.offset :]
        items = await self._store.read_by_id(
            scope, [key for key, _ in ranked], refresh_ttl=search.refresh_ttl
        )
        return ItemPage(
            [
                replace(item, score=score)
                for item, (_, score) in zip(items, ranked, strict=True)
                if item is not None
            ],
            degraded=found.degraded,
        )

    async def namespaces(self, scope: Scope, request: ListNamespaces) -> NamespacePage:
        """Namespaces in use, in alphabetical order."""
        return await self._store.namespaces(scope, request)

    @spans.traced("item batch")
    async def batch(
        self,
        scope: Scope,
        operations: Sequence[ItemOperation | RequestError],
        *,
        changed_by: str,
    ) -> Sequence[OperationResult | RequestError]:
        """Carry out operations in order; a result or its error each, None for a missing item.

        Adjacent writes share a statement, and so do adjacent reads by name. Operations that are
        errors already stay what they are.
        """
        results: list[OperationResult | RequestError] = []
        for kind, group in groupby(operations, key=_kind):
            run = list(group)
            if kind == "error":
                results += [one for one in run if isinstance(one, RequestError)]
            elif kind == "write":
                writes = [one for one in run if isinstance(one, PutItem | DeleteItem)]
                results += await self._write_all(scope, writes, changed_by)
            elif kind == "get":
                reads = [one for one in run if isinstance(one, GetItem)]
                results += await self._store.read(scope, reads)
            else:
                results += [await self._list(scope, one) for one in run]
        return results

    async def close(self) -> None:
        """Wait until every call in progress has its result."""
        await self._single.close()
        await self._batches.close()

    async def _list(
        self, scope: Scope, operation: ItemOperation | RequestError
    ) -> ItemPage | NamespacePage:
        if isinstance(operation, ListNamespaces):
            return await self._store.namespaces(scope, operation)
        assert isinstance(operation, SearchItems)
        return await self.search(scope, operation)

    async def _write(self, scope: Scope, write: ItemWrite, changed_by: str) -> Written:
        prepared = await self._prepared([write], changed_by)
        (written,) = await self._single.submit(PreparedWrites(scope, prepared))
        self._signal.notify(scope)
        outcome = _checked(written, write.name)
        if isinstance(outcome, RequestError):
            raise outcome
        return outcome

    async def _write_all(
        self, scope: Scope, writes: Sequence[ItemWrite], changed_by: str
    ) -> Sequence[Written | RequestError]:
        prepared = await self._prepared(writes, changed_by)
        written = await self._batches.submit(PreparedWrites(scope, prepared))
        self._signal.notify(scope)
        return [_checked(one, write.name) for one, write in zip(written, writes, strict=True)]

    async def _prepared(
        self, writes: Sequence[ItemWrite], changed_by: str
    ) -> Sequence[PreparedWrite]:
        """The writes with their texts indexed; long ones in a thread."""
        texts = [
            item_text(write.value, write.index) if isinstance(write, PutItem) else ""
            for write in writes
        ]
        pairs = list(zip(writes, texts, strict=True))
        if sum(map(len, texts)) <= INLINE_CHARACTERS_MAX:
            return [self._prepare(write, text, changed_by) for write, text in pairs]
        return await asyncio.to_thread(
            lambda: [self._prepare(write, text, changed_by) for write, text in pairs]
        )

    def _prepare(self, write: ItemWrite, text: str, changed_by: str) -> PreparedWrite:
        return PreparedWrite(
            write=write,
            changed_by=changed_by,
            id=self._ids.make(),
            content=text,
            passages=index_passages(text, speaker=None, occurred_at=self._clock.now())
            if text
            else (),
        )

    def _statements(
        self, block_store: BlockStore, *, batches_max: int
    ) -> Batches[PreparedWrites, Sequence[Written]]:
        def statements() -> Batches[PreparedWrites, Sequence[Written]]:
            return ContentionAware(
                self._store.write,
                key_of=lambda request: request.scope,
                locked=block_store.locked_scopes,
                items_max=STATEMENT_REQUESTS_MAX,
                size_max=STATEMENT_WRITES_MAX,
                size_of=lambda request: len(request.writes),
                batches_max=batches_max,
                contended=StoreContended,
                is_shared=is_outage,
            )

        part_of = self._part_of
        return parted(
            statements, None if part_of is None else lambda request: part_of(request.scope)
        )


def _kind(operation: ItemOperation | RequestError) -> str:
    match operation:
        case RequestError():
            return "error"
        case PutItem() | DeleteItem():
            return "write"
        case GetItem():
            return "get"
        case _:
            return "list"


def _checked(written: Written, name: ItemName) -> Written | RequestError:
    match written.outcome:
        case "exists":
            return Conflict(f"There is an item with the key {name.key!r}", code="item_exists")
        case "stale":
            return PreconditionFailed(
                f"The item with the key {name.key!r} has changed, or is not there",
                code="item_changed",
            )
        case "reused":
            return Invalid(
                "This idempotency key was already used with another request",
                code="idempotency_key_reused",
                field="Idempotency-Key",
            )
        case _:
            return written
