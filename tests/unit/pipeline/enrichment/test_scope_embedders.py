"""The model of a scope is read once for concurrent requests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest

from luma_memory.domain.clock import SystemClock
from luma_memory.domain.errors import StoreUnavailable
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.enrichment.scope_embedders import ScopeEmbedders
from luma_memory.ports.models import Embedder
from luma_memory.ports.vector_models import VectorModels
from luma_memory.testing.models import WordEmbedder


@dataclass
class Models:
    """Returns the models in use once it is unblocked."""

    may_respond: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0
    away: bool = False

    async def in_use(self) -> Sequence[str]:
        self.calls += 1
        await self.may_respond.wait()
        if self.away:
            raise StoreUnavailable("PostgreSQL does not respond")
        return ["words-64"]


def _embedders(models: Models) -> ScopeEmbedders:
    async def none(_model_id: str) -> Embedder | None:
        return None

    embedder = WordEmbedder()
    return ScopeEmbedders(
        embedder,
        model_id=embedder.model.id,
        models=cast("VectorModels", models),
        open_other=none,
        clock=SystemClock(),
    )


async def _pending_calls(embedders: ScopeEmbedders, users: int) -> list[asyncio.Task[Embedder]]:
    scopes = [Scope("default", f"user-{n}") for n in range(users)]
    asking = [asyncio.create_task(embedders.of_scope(scope)) for scope in scopes]
    for _ in range(5):  # turns of the loop: all have asked, and none has an answer
        await asyncio.sleep(0)
    return asking


async def test_a_group_of_jobs_costs_one_statement() -> None:
    models = Models()
    asking = await _pending_calls(_embedders(models), 64)
    asking[0].cancel()  # who came first is not who the others depend on
    models.may_respond.set()
    embedders = await asyncio.gather(*asking[1:])
    assert models.calls == 1
    assert len({id(embedder) for embedder in embedders}) == 1


async def test_every_caller_waits_until_the_model_is_known() -> None:
    models = Models(away=True)
    embedders = _embedders(models)
    asking = await _pending_calls(embedders, 3)
    assert not any(task.done() for task in asking)
    models.may_respond.set()
    for task in asking:
        with pytest.raises(StoreUnavailable):
            await task
    models.away = False
    await embedders.of_scope(Scope("default", "ada"))
    assert models.calls == 2
