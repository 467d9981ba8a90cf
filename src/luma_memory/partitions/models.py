"""Embedding models, pending backfills and usage over all partitions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple, replace
from typing import Any
from uuid import UUID

from luma_memory.domain.enrichment import PendingBackfillCounts
from luma_memory.domain.erasure import Erasure
from luma_memory.domain.errors import LumaMemoryError, StoreUnavailable
from luma_memory.domain.partition import HOME
from luma_memory.domain.relation import RelationCursor
from luma_memory.domain.scope import Scope
from luma_memory.domain.usage import Spent, UsageEntry, UsageFilter, UsageKey
from luma_memory.partitions.router import Parts, Routed
from luma_memory.ports.accounts import UsageStore
from luma_memory.ports.archive import Remains
from luma_memory.ports.vector_models import ReembedProgress
from luma_memory.store.backfill import PostgresBackfillStore
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.circuits import PostgresCircuits
from luma_memory.store.erasures import PostgresEraserStore
from luma_memory.store.relations import PostgresRelationStore
from luma_memory.store.snapshots import PostgresSnapshotStore
from luma_memory.store.vector_models import PostgresVectorModels


async def register_model(routed: Routed[PostgresVectorModels], model_id: str) -> None:
    """In all partitions that respond: a process starts without the others."""
    await routed.responding(lambda store: store.register(model_id))


async def models_in_use(routed: Routed[PostgresVectorModels]) -> Sequence[str]:
    found = await routed.responding(lambda store: store.in_use())
    return list(dict.fromkeys(model for models in found for model in models))


async def request_model(routed: Routed[PostgresVectorModels], model_id: str) -> None:
    """The home partition last: it reports the request, which then holds in all."""
    others = await routed.outcomes(
        lambda store: store.request(model_id), numbers=range(HOME + 1, routed.places.count)
    )
    for outcome in others:
        if isinstance(outcome, LumaMemoryError):
            raise outcome
    await routed.at(HOME, lambda store: store.request(model_id))


async def enqueue_reembeds(
    routed: Routed[PostgresVectorModels], model_id: str, *, limit: int, circuits: Sequence[str]
) -> int:
    """One partition after the other: they share a lock of a server. Each ends its own switch."""
    if await _any_open(routed, circuits):
        return 0
    made = 0
    for number in range(routed.places.count):
        (outcome,) = await routed.outcomes(
            lambda store: store.enqueue(model_id, limit=limit, circuits=circuits),
            numbers=[number],
            writes=True,
        )
        made += 0 if isinstance(outcome, LumaMemoryError) else outcome
    return made


async def reembed_progress(routed: Routed[PostgresVectorModels], model_id: str) -> ReembedProgress:
    found = await routed.all(lambda store: store.progress(model_id))
    return ReembedProgress(
        requested=any(one.requested for one in found),
        total=sum(one.total for one in found),
        done=sum(one.done for one in found),
    )


async def enqueue_backfill(
    routed: Routed[PostgresBackfillStore], *, open_max: int, circuits: Sequence[str]
) -> int:
    """One partition after the other, as in `enqueue_reembeds`; `open_max` in each."""
    if await _any_open(routed, circuits):
        return 0
    made = 0
    for number in range(routed.places.count):
        (outcome,) = await routed.outcomes(
            lambda store: store.enqueue_due(open_max=open_max, circuits=circuits),
            numbers=[number],
            writes=True,
        )
        made += 0 if isinstance(outcome, LumaMemoryError) else outcome
    return made


async def request_backfill(
    routed: Routed[PostgresBackfillStore],
    *,
    project_id: str | None,
    user_id: str | None,
    limit: int,
) -> int:
    changed = 0
    if project_id is not None and user_id is not None:
        return await routed.of(
            Scope(project_id, user_id),
            lambda store: store.request(project_id=project_id, user_id=user_id, limit=limit),
            writes=True,
        )
    for number in range(routed.places.count):
        if changed < limit:
            left = limit - changed

            async def request(store: PostgresBackfillStore, left: int = left) -> int:
                return await store.request(project_id=project_id, user_id=user_id, limit=left)

            changed += await routed.at(number, request, writes=True)
    return changed


async def count_backfill(
    routed: Routed[PostgresBackfillStore], *, project_id: str | None, user_id: str | None
) -> PendingBackfillCounts:
    found = await routed.responding(
        lambda store: store.pending_counts(project_id=project_id, user_id=user_id)
    )
    return PendingBackfillCounts(*map(sum, zip(*map(astuple, found), strict=True)))


async def enqueue_relations(
    routed: Routed[PostgresRelationStore],
    after: RelationCursor,
    *,
    project_id: str | None,
    user_id: str | None,
    limit: int,
    attempts_max: int,
    is_trial: bool,
) -> tuple[int, RelationCursor] | None:
    """One partition after the other; it continues in the partition of the cursor's user."""
    if project_id is not None and user_id is not None:
        return await routed.of(
            Scope(project_id, user_id),
            lambda store: store.enqueue_page(
                after,
                project_id=project_id,
                user_id=user_id,
                limit=limit,
                attempts_max=attempts_max,
                is_trial=is_trial,
            ),
            writes=True,
        )
    numbers = range(routed.places.count)
    first = after.scope != Scope("", "")
    number = routed.places.number_of(after.scope) if first else HOME
    for n in numbers[number:]:
        start = after if n == number else replace(after, scope=Scope("", ""))

        async def enqueue(
            store: PostgresRelationStore, start: RelationCursor = start
        ) -> tuple[int, RelationCursor] | None:
            return await store.enqueue_page(
                start,
                project_id=project_id,
                user_id=user_id,
                limit=limit,
                attempts_max=attempts_max,
                is_trial=is_trial,
            )

        found = await routed.at(n, enqueue, writes=True)
        if found is not None:
            return found
    return None


async def erased_scopes(
    routed: Routed[PostgresSnapshotStore], read_at: Mapping[Scope, int]
) -> Sequence[Scope]:
    """Of the partitions that respond."""
    scopes = list(read_at)

    async def read(parts: Parts) -> Sequence[Scope]:
        found: list[Scope] = []
        for number, positions in parts.items():
            part = {scopes[n]: read_at[scopes[n]] for n in positions}
            (outcome,) = await routed.outcomes(
                lambda store, part=part: store.erased(part),  # type: ignore[misc]
                numbers=[number],
            )
            if not isinstance(outcome, LumaMemoryError):
                found += outcome
        return found

    return await routed.with_parts(scopes, read)


async def add_usage(routed: Routed[UsageStore], entries: Sequence[UsageEntry]) -> Collection[Scope]:
    """Users of a partition that does not respond count as locked: theirs is added later."""
    await routed.places.know()
    if routed.places.moves_users:
        return await _add_while_moved(routed, entries)
    parts = routed.parted(entries, lambda entry: entry.key.scope)
    later: set[Scope] = set()
    errors = 0
    for number, positions in parts.items():
        chosen = [entries[n] for n in positions]
        try:
            later |= set(
                await routed.at(
                    number,
                    lambda store, chosen=chosen: store.add(chosen),  # type: ignore[misc]
                    writes=True,
                )
            )
        except StoreUnavailable:
            errors += 1
            if errors == len(parts):
                raise
            later |= {entry.key.scope for entry in chosen}
    return later


async def _add_while_moved(
    routed: Routed[UsageStore], entries: Sequence[UsageEntry]
) -> Collection[Scope]:
    async def add(store: UsageStore, chosen: Sequence[UsageEntry]) -> Sequence[bool]:
        locked = await store.add(chosen)
        return [entry.key.scope in locked for entry in chosen]

    outcomes = await routed.each(
        entries, lambda entry: entry.key.scope, add, writes=True, inserts=True
    )
    return {
        entry.key.scope
        for entry, outcome in zip(entries, outcomes, strict=True)
        if isinstance(outcome, LumaMemoryError) or outcome
    }


async def usage_lines(
    routed: Routed[UsageStore], which: UsageFilter, *, limit: int
) -> Sequence[UsageEntry]:
    if which.project_id is not None and which.user_id is not None:
        scope = Scope(which.project_id, which.user_id)
        return await routed.of(scope, lambda store: store.lines(which, limit=limit))
    sums: defaultdict[UsageKey, Spent] = defaultdict(Spent)
    for lines in await routed.all(lambda store: store.lines(which, limit=limit)):
        for line in lines:
            sums[line.key] = sums[line.key].plus(line.spent)
    entries = [UsageEntry(key, spent) for key, spent in sums.items()]
    entries.sort(
        key=lambda entry: (-entry.key.day.toordinal(), entry.key.operation, entry.key.model)
    )
    return entries[:limit]


async def _any_open(
    routed: Routed[PostgresVectorModels] | Routed[PostgresBackfillStore], circuits: Sequence[str]
) -> bool:
    """Circuits are in the home partition; if it does not respond, nothing more is enqueued."""
    try:
        return bool(circuits) and await PostgresCircuits(routed.places.home).any_open(circuits)
    except StoreUnavailable:
        return True


async def locked_scopes(
    routed: Routed[PostgresBlockStore], scopes: Collection[Scope]
) -> Collection[Scope]:
    listed = list(scopes)

    async def read(parts: Parts) -> Collection[Scope]:
        locked: set[Scope] = set()
        for number, positions in parts.items():
            chosen = [listed[n] for n in positions]

            async def ask(
                store: PostgresBlockStore, chosen: Sequence[Scope] = chosen
            ) -> Collection[Scope]:
                return await store.locked_scopes(chosen)

            locked |= set(await routed.at(number, ask))
        return locked

    return await routed.with_parts(listed, read)


async def erase(
    routed: Routed[PostgresEraserStore], scope: Scope, *, erasure_id: UUID, **values: Any
) -> Erasure | None:
    """The user's keys, which are in the home partition, are revoked before and counted after."""
    revoked = 0
    if routed.places.moves_users or routed.places.number_of(scope) != HOME:
        revoked = await routed.at(HOME, lambda store: store.revoke_keys(scope), writes=True)
    erasure = await routed.of(
        scope, lambda store: store.erase(scope, erasure_id=erasure_id, **values), writes=True
    )
    if erasure is None or not revoked:
        return erasure
    # The receipt has to agree with the record.
    await routed.of(scope, lambda store: store.count_keys(scope, erasure_id, revoked), writes=True)
    return replace(erasure, counts={**erasure.counts, "api_keys": revoked})


async def find_erasure(
    routed: Routed[PostgresEraserStore],
    scope: Scope,
    *,
    erasure_id: UUID | None,
    key: bytes | None,
) -> Erasure | None:
    """Records of users who were erased before users were spread are in the home partition."""

    async def find(store: PostgresEraserStore) -> Erasure | None:
        return await store.find(scope, erasure_id=erasure_id, key=key)

    return await routed.of(scope, find) or await routed.at(HOME, find)


async def remains(routed: Routed[PostgresEraserStore], scope: Scope) -> Remains:
    """With the rows of the home partition, which has the user's keys."""
    own = await routed.of(scope, lambda store: store.remains(scope))
    if routed.places.number_of(scope) == HOME and not routed.places.moves_users:
        return own
    home = await routed.at(HOME, lambda store: store.remains(scope))
    return replace(own, counts={**home.counts, **own.counts})
