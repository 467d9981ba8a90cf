"""Store conversations in a service, run their questions, and collect the results."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luma_memory.cli.conversations import StoredConversation, store
from luma_memory.cli.evaluation.dataset import Query
from luma_memory.cli.evaluation.measures import QueryScore, score_query
from luma_memory.cli.options import service_url
from luma_memory.cli.output import Bar, print_note, progress
from luma_memory.cli.processes import Stack, running_stack
from luma_memory.cli.running import one_error
from luma_memory.cli.service import ServiceClient
from luma_memory.cli.waiting import (
    failed_blocks,
    nothing_to_check,
    wait_until_derived,
    wait_until_enriched,
)
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.settings import load_settings

# Simpler rankings of the same stored rows, for comparison.
BASELINES: Mapping[str, Mapping[str, Any]] = {
    "without relations": {"use_relations": False},
    "dense alone": {"ranking": "dense"},
    "BM25 alone": {"ranking": "lexical"},
    "rank fusion": {"ranking": "reciprocal"},
}
# Deep enough for recall@20 and for a meaningful reciprocal rank.
RANKING_ITEMS = 50
RELEVANCE_ITEMS = 10


@dataclass(frozen=True, slots=True)
class QueryResult:
    """One question and its results."""

    conversation_id: str
    query: Query
    ranking: Sequence[str]
    score: QueryScore | None  # None: without evidence
    baselines: Mapping[str, QueryScore | None]  # by the names of BASELINES
    is_relevant: bool  # whether the response reports that something relevant is stored
    # The same in the next conversation's scope, which does not contain the subject.
    is_relevant_elsewhere: bool | None  # None: there is no other conversation


async def run_queries(
    conversations: Sequence[StoredConversation],
    url: str | None,
    concurrency: int,
    baselines: Sequence[str],
) -> list[QueryResult]:
    """Store the conversations in the service at `url` and run their queries.

    url: None starts a temporary service.
    """
    api_key = load_settings().client_key
    async with (
        _service(url) as (base_url, stack),
        ServiceClient(base_url, api_key=api_key) as client,
    ):
        await client.live()
        await _store_all(client, conversations, stack)
        total = sum(len(stored.conversation.queries) for stored in conversations)
        with progress("questions", total) as bar:
            return await _query_all(client, conversations, concurrency, baselines, bar)


@asynccontextmanager
async def _service(url: str | None) -> AsyncIterator[tuple[str, Stack | None]]:
    """The given service, or a temporary one that is removed afterwards."""
    if url is not None:
        yield service_url(url, load_settings()), None
        return
    with tempfile.TemporaryDirectory(prefix="luma-memory-eval-") as folder:
        print_note("starting database, API and worker …")
        async with running_stack(data_dir=Path(folder) / "data") as stack:
            yield stack.base_url, stack


async def _store_all(
    client: ServiceClient, conversations: Sequence[StoredConversation], stack: Stack | None
) -> None:
    users = [stored.user_id for stored in conversations]
    for stored in conversations:
        await store(client, stored)
    total = sum(len(stored.items) for stored in conversations)
    check = stack.check if stack else nothing_to_check
    with progress("blocks enriched", total) as bar:
        await wait_until_enriched(client, users, bar, check=check)
    if failed := await failed_blocks(client, users):
        raise LumaMemoryError(
            f"{len(failed)} blocks could not be enriched, the first one: {failed[0].error}",
            code="blocks_failed",
        )
    await wait_until_derived(client, users, check=check)


async def _query_all(
    client: ServiceClient,
    conversations: Sequence[StoredConversation],
    concurrency: int,
    baselines: Sequence[str],
    bar: Bar,
) -> list[QueryResult]:
    slots = asyncio.Semaphore(concurrency)
    others: list[StoredConversation | None] = [None] * len(conversations)
    if len(conversations) > 1:
        others = [*conversations[1:], conversations[0]]

    async def query_one(
        stored: StoredConversation, elsewhere: StoredConversation | None, query: Query
    ) -> QueryResult:
        async with slots:
            result = await _query(client, stored, elsewhere, query, baselines)
        bar.advance()
        return result

    with one_error():
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(query_one(stored, elsewhere, query))
                for stored, elsewhere in zip(conversations, others, strict=True)
                for query in stored.conversation.queries
            ]
    return [task.result() for task in tasks]


async def _query(
    client: ServiceClient,
    stored: StoredConversation,
    elsewhere: StoredConversation | None,
    query: Query,
    baselines: Sequence[str],
) -> QueryResult:
    async def ranked(**how: Any) -> Sequence[str]:
        limit = stored.limit(RANKING_ITEMS)
        response = await client.search(query.text, user_id=stored.user_id, limit=limit, **how)
        return stored.ranking(response)

    ranking = await ranked()
    return QueryResult(
        stored.conversation.id,
        query,
        ranking,
        score_query(query, ranking, stored.sessions),
        {
            name: score_query(query, await ranked(**BASELINES[name]), stored.sessions)
            for name in baselines
        },
        is_relevant=await _is_relevant(client, stored, query),
        is_relevant_elsewhere=None
        if elsewhere is None
        else await _is_relevant(client, elsewhere, query),
    )


async def _is_relevant(client: ServiceClient, stored: StoredConversation, query: Query) -> bool:
    """As reported to an application that requests ten blocks."""
    response = await client.search(query.text, user_id=stored.user_id, limit=RELEVANCE_ITEMS)
    return response.relevant
