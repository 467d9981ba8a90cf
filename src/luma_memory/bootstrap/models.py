"""The providers with their accounting, and the embedding models in use."""

from __future__ import annotations

from dataclasses import dataclass

from luma_memory.bootstrap.process import Process
from luma_memory.bootstrap.providers import (
    Providers,
    daily_limits,
    open_embedder,
    open_providers,
    prices_of,
)
from luma_memory.bootstrap.storage import Storage
from luma_memory.domain.errors import SetupError
from luma_memory.pipeline.accounts.spending import Spending
from luma_memory.pipeline.enrichment.backfill import Backfill
from luma_memory.pipeline.enrichment.scope_embedders import ScopeEmbedders
from luma_memory.ports.models import Embedder
from luma_memory.store.backfill import PostgresBackfillStore
from luma_memory.store.usage import PostgresUsageStore
from luma_memory.telemetry.events import Notice


@dataclass(frozen=True, slots=True)
class Models:
    """The models and their accounting."""

    providers: Providers
    scope_embedders: ScopeEmbedders | None  # None if embedding is disabled
    spending: Spending | None  # None if all providers are free
    backfill: Backfill


async def open_models(process: Process, storage: Storage) -> Models:
    """Raises as `open_providers`, and StoreUnavailable."""
    stack = process.stack
    providers = await open_providers(
        process.settings, storage.circuits, storage.cache, process.clock
    )
    stack.push_async_callback(providers.close)
    scope_embedders = await _scope_embedders(process, storage, providers)
    if scope_embedders is not None:
        stack.push_async_callback(scope_embedders.close)
    spending = _spending(process, storage)
    if spending is not None:
        stack.push_async_callback(spending.close)
    backfill = Backfill(storage.placement.store(PostgresBackfillStore), circuits=providers.circuits)
    if process.kind == "worker":
        await _offer_backfill(process, backfill)
        if providers.fallback is not None:
            providers.fallback.warm()
    return Models(providers, scope_embedders, spending, backfill)


def _spending(process: Process, storage: Storage) -> Spending | None:
    settings = process.settings
    if not settings.has_completion_provider:
        return None
    return Spending(
        storage.placement.store(PostgresUsageStore),
        prices=prices_of(settings.openai_base_url),
        limits=daily_limits(settings),
        clock=process.clock,
        part_of=storage.placement.part_of,
    )


async def _scope_embedders(
    process: Process, storage: Storage, providers: Providers
) -> ScopeEmbedders | None:
    embedder, model_id = providers.embedder, providers.embedding_model_id
    if embedder is None or model_id is None:
        return None
    await storage.vectors.register(model_id)
    others = [other for other in await storage.vectors.in_use() if other != model_id]
    if others and all(other == _replaced(embedder) for other in others):
        process.emit(Notice(f"workers re-embed all blocks for {model_id} in the background"))
        if process.kind == "worker" and await storage.vectors.requested() is None:
            await storage.vectors.request(model_id)
    elif others:
        process.emit(
            Notice(
                f"There are vectors of {', '.join(others)}, and blocks and queries still use"
                f" them: `luma-memory reembed` switches to {model_id}"
            )
        )
    return ScopeEmbedders(
        embedder,
        model_id=model_id,
        models=storage.vectors,
        open_other=lambda other: open_embedder(
            process.settings, storage.circuits, process.clock, other
        ),
        clock=process.clock,
    )


def _replaced(embedder: Embedder) -> str | None:
    """The id of the model's earlier version."""
    try:
        return embedder.model.replaces
    except SetupError:  # a provider whose dimension is not known yet
        return None


async def _offer_backfill(process: Process, backfill: Backfill) -> None:
    """Report blocks that lack a step because it was disabled: it may be enabled again."""
    pending = await backfill.pending_counts(project_id=None, user_id=None)
    if pending.asked:
        process.emit(
            Notice(
                f"{pending.asked:,} blocks lack what was switched off when they arrived:"
                " `luma-memory backfill` adds it"
            )
        )
