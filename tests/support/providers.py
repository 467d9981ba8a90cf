"""The model provider's adapters as bootstrap makes them, in front of a scripted server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from tests.fakes.openai_server import FakeOpenAI
from tests.support.running import Plan

from luma_memory.domain.clock import SystemClock
from luma_memory.postgres.database import Database
from luma_memory.providers.api_key import ApiKey
from luma_memory.providers.breaker import Breaker
from luma_memory.providers.completion.completion_model import completion_model
from luma_memory.providers.completion.local import LocalEnricher
from luma_memory.providers.completion.structured_call import Target
from luma_memory.providers.model_provider import Account, ModelProvider
from luma_memory.store.circuits import PostgresCircuits

DIMENSION = 64


def model_target(
    model: str,
    *,
    api_key: ApiKey = None,
    base_url: str | None = None,
    timeout_seconds: float = 25.0,
) -> Target:
    """A completion model without a circuit breaker."""
    return Target(
        completion_model(model, api_key=api_key, base_url=base_url, timeout_seconds=timeout_seconds)
    )


@dataclass(frozen=True)
class ProviderOptions:
    """What a test changes."""

    fail_fast: bool = False
    models: tuple[str, ...] = ("gpt-test",)
    timeout_seconds: float = 5.0
    backoff: timedelta = timedelta(milliseconds=20)
    concurrent_jobs_max: int = 8


@asynccontextmanager
async def provided(
    database: Database, server: FakeOpenAI, options: ProviderOptions | None = None
) -> AsyncIterator[Plan]:
    """A plan of a worker that enriches and embeds at the server."""
    options = options or ProviderOptions()
    account = Account(api_key="a-key-of-the-tests", base_url=server.base_url)
    clock, circuits = SystemClock(), PostgresCircuits(database)

    def breaker_of(name: str) -> Breaker:
        return Breaker(circuits, name, clock=clock)

    provider = ModelProvider(
        account,
        models=options.models,
        timeout_seconds=options.timeout_seconds,
        breaker_of=breaker_of,
    )
    enricher = provider.enricher()
    embedder, _, _ = provider.embedder("text-embedding-3-small", DIMENSION)
    try:
        yield Plan(
            enricher=enricher,
            embedder=embedder,
            fallback=None if options.fail_fast else LocalEnricher(),
            fail_fast=options.fail_fast,
            provider_timeout=timedelta(seconds=options.timeout_seconds * 2),
            paused_wait=timedelta(seconds=30),
            backoff=options.backoff,
            concurrent_jobs_max=options.concurrent_jobs_max,
        )
    finally:
        await enricher.close()
        await embedder.close()
