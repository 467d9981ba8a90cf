"""`eval`: retrieval quality through the real service."""

from __future__ import annotations

import asyncio
import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from luma_memory.cli.commands import examples
from luma_memory.cli.conversations import StoredConversation, read_conversations, store
from luma_memory.cli.options import service_url
from luma_memory.cli.output import Bar, console, plain, progress, say_note
from luma_memory.cli.processes import Stack, running_stack
from luma_memory.cli.running import one_error, run_async
from luma_memory.cli.service import ServiceClient
from luma_memory.cli.waiting import failed_blocks, nothing_to_check, wait_until_enriched
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.pipeline.evaluation import (
    CUTOFFS,
    MAIN_GROUP,
    NDCG_CUTOFF,
    Query,
    QueryScore,
    SummaryRow,
    score_query,
    summarize,
)
from luma_memory.settings import load_settings

# Deep enough for recall@20 and for a reciprocal rank that is more than a rounding.
RANKING_ITEMS = 50


@dataclass(frozen=True, slots=True)
class Asked:
    """One question and what came back."""

    conversation_id: str
    query: Query
    ranking: Sequence[str]
    score: QueryScore | None  # None: nothing stored answers it


@examples(
    "luma-memory eval conversations.json",
    "luma-memory eval a.json b.json --json figures.json",
    "luma-memory eval conversations.json --url http://127.0.0.1:8080",
)
def evaluate(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE…", exists=True, dir_okay=False, help="In the format memory-retrieval/1."
        ),
    ],
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="A running service; by default one of its own."),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="OUT", dir_okay=False, help="Write all figures there."),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", metavar="N", min=1, max=64, help="Questions at once.")
    ] = 4,
) -> None:
    """Measure how well questions are answered.

    Every conversation is stored through the HTTP service in an empty scope; when all of it is
    enriched its questions are asked. The group `main` counts, others are shown apart. Without
    --url a service is started on an empty database and removed afterwards; with it, the blocks stay
    there under users named eval-….
    """
    run = secrets.token_hex(4)
    read = [
        conversation for file in files for conversation in read_conversations(file).conversations
    ]
    conversations = [
        StoredConversation(conversation, f"eval-{run}-{number}")
        for number, conversation in enumerate(read)
    ]
    asked = run_async(_evaluate(conversations, url, concurrency))
    rows = summarize(entry.score for entry in asked if entry.score is not None)
    console().print(quality_table(rows))
    if json_file is not None:
        json_file.write_text(json.dumps(_figures(rows, asked), indent=1), encoding="utf-8")


async def _evaluate(
    conversations: Sequence[StoredConversation], url: str | None, concurrency: int
) -> list[Asked]:
    api_key = load_settings().client_key
    async with (
        _service(url) as (base_url, stack),
        ServiceClient(base_url, api_key=api_key) as client,
    ):
        await client.live()
        await _store_all(client, conversations, stack)
        total = sum(len(stored.conversation.queries) for stored in conversations)
        with progress("questions asked", total) as bar:
            return await _ask_all(client, conversations, concurrency, bar)


@asynccontextmanager
async def _service(url: str | None) -> AsyncIterator[tuple[str, Stack | None]]:
    """The given service, or one of its own that is gone afterwards."""
    if url is not None:
        yield service_url(url, load_settings()), None
        return
    with tempfile.TemporaryDirectory(prefix="luma-memory-eval-") as folder:
        say_note("starting database, API and worker …")
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


async def _ask_all(
    client: ServiceClient, conversations: Sequence[StoredConversation], concurrency: int, bar: Bar
) -> list[Asked]:
    slots = asyncio.Semaphore(concurrency)

    async def ask(stored: StoredConversation, query: Query) -> Asked:
        async with slots:
            asked = await _ask(client, stored, query)
        bar.advance()
        return asked

    with one_error():
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(ask(stored, query))
                for stored in conversations
                for query in stored.conversation.queries
            ]
    return [task.result() for task in tasks]


async def _ask(client: ServiceClient, stored: StoredConversation, query: Query) -> Asked:
    limit = stored.limit(RANKING_ITEMS)
    answer = await client.search(stored.user_id, query.text, limit=limit)
    ranking = stored.ranking(answer)
    return Asked(stored.conversation.id, query, ranking, score_query(query, ranking))


def quality_table(rows: Sequence[SummaryRow]) -> Table:
    """The measures of groups and categories; the group that counts comes first."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("group")
    table.add_column("category")
    recalls, hits = [f"recall@{k}" for k in CUTOFFS], [f"hit@{k}" for k in CUTOFFS]
    for name in ("n", *recalls, *hits, "MRR", f"nDCG@{NDCG_CUTOFF}"):
        table.add_column(name, justify="right")
    for row in rows:
        if row.category is None and table.row_count:
            table.add_section()
        style = "bold" if row.category is None else ""
        table.add_row(plain(row.group), plain(row.category or "all"), *_cells(row), style=style)
    table.caption = f"{MAIN_GROUP} counts; other groups are shown apart"
    return table


def _cells(row: SummaryRow) -> list[str]:
    measures = row.measures
    values = [
        *(measures.recall[k] for k in CUTOFFS),
        *(measures.hit[k] for k in CUTOFFS),
        measures.reciprocal_rank,
        measures.ndcg,
    ]
    return [str(row.query_count), *(f"{value:.3f}" for value in values)]


def _figures(rows: Sequence[SummaryRow], asked: Sequence[Asked]) -> dict[str, Any]:
    return {
        "rows": [
            {
                "group": row.group,
                "category": row.category,
                "n": row.query_count,
                "recall": {str(k): row.measures.recall[k] for k in CUTOFFS},
                "hit": {str(k): row.measures.hit[k] for k in CUTOFFS},
                "mrr": row.measures.reciprocal_rank,
                f"ndcg@{NDCG_CUTOFF}": row.measures.ndcg,
            }
            for row in rows
        ],
        "queries": [
            {
                "conversation": entry.conversation_id,
                "id": entry.query.id,
                "evidence": list(entry.query.evidence),
                "ranking": list(entry.ranking),
            }
            for entry in asked
        ],
    }
