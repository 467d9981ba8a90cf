"""`eval`: retrieval quality through the real service."""

from __future__ import annotations

import asyncio
import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from luma_memory.cli.commands import examples
from luma_memory.cli.conversations import StoredConversation, read_conversations, store
from luma_memory.cli.evaluation.measures import (
    CUTOFFS,
    MAIN_GROUP,
    NDCG_CUTOFF,
    Query,
    QueryScore,
    SummaryRow,
    score_query,
    summarize,
)
from luma_memory.cli.options import service_url
from luma_memory.cli.output import Bar, console, plain, print_note, progress
from luma_memory.cli.private_files import write_private_text
from luma_memory.cli.processes import Stack, running_stack
from luma_memory.cli.running import one_error, run_async
from luma_memory.cli.service import ServiceClient
from luma_memory.cli.waiting import (
    failed_blocks,
    nothing_to_check,
    wait_until_derived,
    wait_until_enriched,
)
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.settings import load_settings

# What recall is compared with: the same stored rows, ranked more simply.
BASELINES: Mapping[str, Mapping[str, Any]] = {
    "without relations": {"use_relations": False},
    "dense alone": {"ranking": "dense"},
    "BM25 alone": {"ranking": "lexical"},
    "rank fusion": {"ranking": "reciprocal"},
}
# Deep enough for recall@20 and for a reciprocal rank that is more than a rounding.
RANKING_ITEMS = 50
RELEVANCE_ITEMS = 10
ELSEWHERE = "about something else"


@dataclass(frozen=True, slots=True)
class Asked:
    """One question and what came back."""

    conversation_id: str
    query: Query
    ranking: Sequence[str]
    score: QueryScore | None  # None: nothing stored answers it
    baselines: Mapping[str, QueryScore | None]  # by the names of BASELINES
    is_relevant: bool  # whether the answer says that something stored is about it
    # The same where it was never talked about: asked in the next conversation's scope.
    is_relevant_elsewhere: bool | None  # None: there is no other conversation


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
    compare: Annotated[
        bool,
        typer.Option(
            help="Rank the same rows without relations, by plain dense, plain BM25 and plain rank"
            " fusion as well."
        ),
    ] = True,
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
    compared = tuple(BASELINES) if compare else ()
    asked = run_async(_evaluate(conversations, url, concurrency, compared))
    rows = summarize(entry.score for entry in asked if entry.score is not None)
    baselines = {
        name: summarize(score for entry in asked if (score := entry.baselines[name]) is not None)
        for name in compared
    }
    console().print(quality_table(rows))
    if compare:
        console().print(comparison_table({"recall": rows, **baselines}))
    shares = relevant_shares(asked)
    console().print(relevance_table(shares))
    if json_file is not None:
        figures = _figures(rows, baselines, asked) | {"relevant": shares}
        write_private_text(json_file, json.dumps(figures, indent=1))


async def _evaluate(
    conversations: Sequence[StoredConversation],
    url: str | None,
    concurrency: int,
    baselines: Sequence[str],
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
            return await _ask_all(client, conversations, concurrency, baselines, bar)


@asynccontextmanager
async def _service(url: str | None) -> AsyncIterator[tuple[str, Stack | None]]:
    """The given service, or one of its own that is gone afterwards."""
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


async def _ask_all(
    client: ServiceClient,
    conversations: Sequence[StoredConversation],
    concurrency: int,
    baselines: Sequence[str],
    bar: Bar,
) -> list[Asked]:
    slots = asyncio.Semaphore(concurrency)
    others: list[StoredConversation | None] = [None] * len(conversations)
    if len(conversations) > 1:
        others = [*conversations[1:], conversations[0]]

    async def ask(
        stored: StoredConversation, elsewhere: StoredConversation | None, query: Query
    ) -> Asked:
        async with slots:
            asked = await _ask(client, stored, elsewhere, query, baselines)
        bar.advance()
        return asked

    with one_error():
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(ask(stored, elsewhere, query))
                for stored, elsewhere in zip(conversations, others, strict=True)
                for query in stored.conversation.queries
            ]
    return [task.result() for task in tasks]


async def _ask(
    client: ServiceClient,
    stored: StoredConversation,
    elsewhere: StoredConversation | None,
    query: Query,
    baselines: Sequence[str],
) -> Asked:
    async def ranked(**how: Any) -> Sequence[str]:
        limit = stored.limit(RANKING_ITEMS)
        answer = await client.search(query.text, user_id=stored.user_id, limit=limit, **how)
        return stored.ranking(answer)

    ranking = await ranked()
    return Asked(
        stored.conversation.id,
        query,
        ranking,
        score_query(query, ranking),
        {name: score_query(query, await ranked(**BASELINES[name])) for name in baselines},
        is_relevant=await _is_relevant(client, stored, query),
        is_relevant_elsewhere=None
        if elsewhere is None
        else await _is_relevant(client, elsewhere, query),
    )


async def _is_relevant(client: ServiceClient, stored: StoredConversation, query: Query) -> bool:
    """As an application is told that asks for ten blocks."""
    answer = await client.search(query.text, user_id=stored.user_id, limit=RELEVANCE_ITEMS)
    return answer.relevant


def quality_table(rows: Sequence[SummaryRow]) -> Table:
    """The measures of groups and categories; the group that counts comes first."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("group")
    table.add_column("category")
    for name in ("n", *_measure_names()):
        table.add_column(name, justify="right")
    for row in rows:
        if row.category is None and table.row_count:
            table.add_section()
        style = "bold" if row.category is None else ""
        table.add_row(plain(row.group), plain(row.category or "all"), *_cells(row), style=style)
    table.caption = f"{MAIN_GROUP} counts; other groups are shown apart"
    return table


def comparison_table(results: Mapping[str, Sequence[SummaryRow]]) -> Table:
    """Each way of ranking over whole groups, the one that counts first."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("group")
    table.add_column("ranking")
    for name in ("n", *_measure_names()):
        table.add_column(name, justify="right")
    groups = [row.group for row in next(iter(results.values()), ()) if row.category is None]
    for group in groups:
        if table.row_count:
            table.add_section()
        for number, (name, rows) in enumerate(results.items()):
            for row in rows:
                if row.group == group and row.category is None:
                    style = "" if number else "bold"
                    table.add_row(plain(group), name, *_cells(row), style=style)
    return table


def relevant_shares(asked: Sequence[Asked]) -> dict[str, float]:
    """What share of the questions of each group is told that something relevant is stored."""
    said: dict[str, list[bool]] = {}
    for entry in asked:
        said.setdefault(entry.query.group, []).append(entry.is_relevant)
        if entry.query.group == MAIN_GROUP and entry.is_relevant_elsewhere is not None:
            said.setdefault(ELSEWHERE, []).append(entry.is_relevant_elsewhere)
    return {group: sum(answers) / len(answers) for group, answers in said.items()}


def relevance_table(shares: Mapping[str, float]) -> Table:
    """Those shares; the one of questions about something else should be small."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("questions")
    table.add_column("called relevant", justify="right")
    for group, share in shares.items():
        table.add_row(plain(group), f"{share:.3f}")
    table.caption = f"{ELSEWHERE}: {MAIN_GROUP} questions, asked where another conversation is"
    return table


def _measure_names() -> list[str]:
    recalls, hits = [f"recall@{k}" for k in CUTOFFS], [f"hit@{k}" for k in CUTOFFS]
    return [*recalls, *hits, "MRR", f"nDCG@{NDCG_CUTOFF}"]


def _cells(row: SummaryRow) -> list[str]:
    measures = row.measures
    values = [
        *(measures.recall[k] for k in CUTOFFS),
        *(measures.hit[k] for k in CUTOFFS),
        measures.reciprocal_rank,
        measures.ndcg,
    ]
    return [str(row.query_count), *(f"{value:.3f}" for value in values)]


def _figures(
    rows: Sequence[SummaryRow],
    baselines: Mapping[str, Sequence[SummaryRow]],
    asked: Sequence[Asked],
) -> dict[str, Any]:
    return {
        "rows": [_row_figures(row) for row in rows],
        "baselines": {
            name: [_row_figures(row) for row in some] for name, some in baselines.items()
        },
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


def _row_figures(row: SummaryRow) -> dict[str, Any]:
    return {
        "group": row.group,
        "category": row.category,
        "n": row.query_count,
        "recall": {str(k): row.measures.recall[k] for k in CUTOFFS},
        "hit": {str(k): row.measures.hit[k] for k in CUTOFFS},
        "mrr": row.measures.reciprocal_rank,
        f"ndcg@{NDCG_CUTOFF}": row.measures.ndcg,
    }
