"""Blocks in PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from luma_memory.domain.block import (
    CLIENT_FIELDS,
    Accepted,
    Block,
    BlockToEnrich,
    IngestItem,
    PassageText,
)
from luma_memory.domain.enrichment import Enrichment, EnrichmentKind, Entity, Vector
from luma_memory.domain.errors import Conflict, InvariantError
from luma_memory.domain.job import Job
from luma_memory.domain.local_time import at_offset, utc_offset_minutes
from luma_memory.domain.scope import Scope
from luma_memory.ports.blocks import EnrichedBlock, Lease, PendingBackfill
from luma_memory.postgres.database import Database
from luma_memory.postgres.instants import aware
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.postgres.vectors import encode_halfvec

_SQL = SqlFile(__name__)
# Over memory_blocks AS b, in the names of domain.block.Block.
BLOCK_COLUMNS = _SQL["block_columns"].partition("\n")[2]
_NEW_BLOCK_FIELDS = (
    *("content", "occurred_at", "idempotency_key", "request_hash"),
    *CLIENT_FIELDS,
)


class PostgresBlockStore:
    """`ports.blocks.BlockStore` on PostgreSQL.

    attempts_max: attempts a new job gets. fair_step: how far one job moves its user back in the
    queue's virtual time; about the time one job takes, so that a user's burst delays no other user
    and has no effect once it is processed. relates: whether a job detects relations of each block
    that becomes active.
    """

    def __init__(
        self,
        database: Database,
        *,
        attempts_max: int,
        fair_step: timedelta = timedelta(milliseconds=100),
        relates: bool = False,
    ) -> None:
        self._database = database
        self._then = {"relations": attempts_max} if relates else {}
        self._attempts_max = attempts_max
        self._fair_step = fair_step

    async def ingest(
        self, items: Sequence[IngestItem], *, lease: Lease | None
    ) -> Sequence[Accepted | Exception]:
        rows = await self._database.fetch(
            _SQL["ingest"],
            [_block_json(item) for item in items],
            *_passage_columns(items),
            self._attempts_max,
            self._fair_step,
            lease.worker_id if lease else None,
            lease.duration if lease else None,
            _traceparents(items),
            _repeats_since(items),
        )
        return [_accepted(row) for row in rows]

    async def locked_scopes(self, scopes: Collection[Scope]) -> Collection[Scope]:
        listed = list(scopes)
        rows = await self._database.fetch(
            _SQL["locked_scopes"],
            [scope.project_id for scope in listed],
            [scope.user_id for scope in listed],
        )
        return {Scope(row["project_id"], row["user_id"]) for row in rows}

    async def read(self, keys: Sequence[tuple[Scope, UUID]]) -> Sequence[Block | None]:
        rows = await self._database.fetch(
            _SQL["read_blocks"],
            *_key_columns(keys),
        )
        blocks = {(block.scope, block.id): block for block in map(block_of, rows)}
        return [blocks.get(key) for key in keys]

    async def read_to_enrich(
        self, keys: Sequence[tuple[Scope, UUID]]
    ) -> Sequence[BlockToEnrich | None]:
        rows = await self._database.fetch(
            _SQL["read_to_enrich"],
            *_key_columns(keys),
        )
        blocks = {}
        for project_id, user_id, block_id, content, speaker, session_id, at, offset, *rest in rows:
            occurred_at = at_offset(aware(at), offset)
            block = BlockToEnrich(
                Scope(project_id, user_id),
                block_id,
                content,
                speaker,
                session_id,
                occurred_at,
                *rest,
            )
            blocks[block.scope, block.id] = block
        return [blocks.get(key) for key in keys]

    async def keep(
        self,
        worker_id: str,
        job: Job,
        enrichment: Enrichment,
        *,
        revision: int,
        kind: EnrichmentKind,
        pending_backfill: PendingBackfill | None,
    ) -> None:
        await self._database.execute(
            _SQL["store_enrichment"],
            worker_id,
            job.id,
            job.attempt,
            revision,
            enrichment.title,
            enrichment.summary,
            _facts(enrichment) | _backfill_facts(pending_backfill),
            enrichment.importance,
            enrichment.language,
            kind,
        )

    async def embedded_ordinals(
        self, scope: Scope, block_id: UUID, model_id: str
    ) -> Collection[int]:
        rows = await self._database.fetch(
            _SQL["embedded_ordinals"], scope.project_id, scope.user_id, block_id, model_id
        )
        return {ordinal for (ordinal,) in rows}

    async def store_vectors(
        self,
        scope: Scope,
        block_id: UUID,
        vectors: Mapping[int, Vector],
        *,
        revision: int,
        model_id: str,
    ) -> int:
        rows = await self._database.fetch(
            _SQL["store_vectors"],
            scope.project_id,
            scope.user_id,
            block_id,
            revision,
            model_id,
            list(vectors),
            [encode_halfvec(vector) for vector in vectors.values()],
        )
        return len(rows)

    async def write_back(self, worker_id: str, results: Sequence[EnrichedBlock]) -> Sequence[bool]:
        models = {result.embedding_model for result in results} - {None}
        if len(models) > 1:
            raise InvariantError("results of different embedding models in one write-back")
        rows = await self._database.fetch(
            _SQL["write_back"],
            worker_id,
            *_result_columns(results, self._then),
            *_result_passage_columns(results),
            next(iter(models), None),
            [_keeps_words(result) for result in results],
        )
        done = {row["position"] for row in rows}
        return [n in done for n in range(1, len(results) + 1)]


def _key_columns(keys: Sequence[tuple[Scope, UUID]]) -> Iterable[list[Any]]:
    return (
        [scope.project_id for scope, _ in keys],
        [scope.user_id for scope, _ in keys],
        [block_id for _, block_id in keys],
    )


def _block_json(item: IngestItem) -> dict[str, Any]:
    """The item as an object with the columns of memory_block_input, named like the fields."""
    block = item.block
    return {
        "id": str(item.id),
        "project_id": block.scope.project_id,
        "user_id": block.scope.user_id,
        "content_hash": _json(item.content_hash),
        "utc_offset_minutes": utc_offset_minutes(block.occurred_at),
        **{name: _json(getattr(block, name)) for name in _NEW_BLOCK_FIELDS},
    }


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return "\\x" + value.hex() if isinstance(value, bytes) else value


def _traceparents(items: Sequence[IngestItem]) -> list[str | None] | None:
    traces = [item.traceparent for item in items]
    return traces if any(traces) else None


def _repeats_since(items: Sequence[IngestItem]) -> list[datetime | None] | None:
    instants = [item.block.repeats_since for item in items]
    return instants if any(instants) else None


def _passage_columns(items: Sequence[IngestItem]) -> Iterable[list[Any]]:
    passages = [(n, passage) for n, item in enumerate(items, start=1) for passage in item.passages]
    return (
        [n for n, _ in passages],
        [passage.ordinal for _, passage in passages],
        [passage.start for _, passage in passages],
        [passage.stop for _, passage in passages],
        [passage.lexemes for _, passage in passages],
    )


def _result_columns(
    results: Sequence[EnrichedBlock], then: Mapping[str, Any]
) -> Iterable[list[Any]]:
    made = [result.enrichment for result in results]
    return (
        [result.job.id for result in results],
        [result.job.attempt for result in results],
        [result.revision for result in results],
        [e.title if e else None for e in made],
        [e.summary if e else None for e in made],
        [_all_facts(result, then) for result in results],
        [e.importance if e else None for e in made],
        [e.language if e else None for e in made],
        [result.kind if result.enrichment else None for result in results],
    )


def _result_passage_columns(results: Sequence[EnrichedBlock]) -> Iterable[list[Any]]:
    passages = [(n, p) for n, result in enumerate(results, start=1) for p in result.passages]
    return (
        [n for n, _ in passages],
        [p.text.ordinal for _, p in passages],
        [p.text.start for _, p in passages],
        [p.text.stop for _, p in passages],
        [p.text.lexemes if isinstance(p.text, PassageText) else None for _, p in passages],
        [None if p.vector is None else encode_halfvec(p.vector) for _, p in passages],
    )


def _keeps_words(result: EnrichedBlock) -> bool:
    texts = [passage.text for passage in result.passages]
    return bool(texts) and not any(isinstance(text, PassageText) for text in texts)


def _all_facts(result: EnrichedBlock, then: Mapping[str, Any]) -> dict[str, Any] | None:
    facts = _facts(result.enrichment) if result.enrichment else {}
    return {**facts, **_backfill_facts(result.pending_backfill), **then} or None


def _backfill_facts(pending: PendingBackfill | None) -> dict[str, Any]:
    if pending is None:
        return {}
    if not pending.steps:
        return {"error": pending.reason}
    after = "asked" if pending.after is None else f"{pending.after.total_seconds()} seconds"
    return {"error": pending.reason, "backfill_steps": list(pending.steps), "backfill_after": after}


def _facts(enrichment: Enrichment) -> dict[str, Any]:
    # One object an item: the driver treats a list of lists as a two-dimensional array.
    return {
        "tags": list(enrichment.tags),
        "entities": [_entity_json(entity) for entity in enrichment.entities],
        "model": enrichment.model,
    }


def _entity_json(entity: Entity) -> dict[str, str]:
    plain = {"name": entity.name, "kind": entity.kind}
    return plain if entity.value is None else {**plain, "value": entity.value}


def _accepted(row: asyncpg.Record) -> Accepted | Exception:
    if row["block_id"] is None:
        # Its key belongs to an item of this statement that was itself a repetition.
        return Conflict("Another block sent at the same time has this key; send this one again")
    return Accepted(
        row["block_id"],
        row["job_id"],
        row["created"],
        row["same_request"],
        repeats=row["repeats"],
    )


def block_of(row: asyncpg.Record | Mapping[str, Any]) -> Block:
    values = dict(row)
    scope = Scope(values.pop("project_id"), values.pop("user_id"))
    entities = tuple(Entity(**entity) for entity in values.pop("entities"))
    offset = values.pop("utc_offset_minutes")
    values |= {
        "occurred_at": at_offset(aware(values["occurred_at"]), offset),
        "expires_at": aware(values["expires_at"]),
    }
    return Block(scope=scope, entities=entities, **values)
