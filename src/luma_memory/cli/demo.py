"""`demo`: run the whole service on a conversation and print measurements."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from luma_memory import __version__
from luma_memory.cli.commands import examples
from luma_memory.cli.conversations import (
    ItemBlock,
    StoredConversation,
    item_blocks,
    read_conversations,
    sessions,
)
from luma_memory.cli.evaluation.dataset import Conversation, Query
from luma_memory.cli.evaluation.measures import hit_at, recall_at
from luma_memory.cli.json_lines import BlockLine, looks_like_lines, read_lines
from luma_memory.cli.options import DataDir
from luma_memory.cli.output import console, plain, print_note, printable, progress, shortened
from luma_memory.cli.processes import Stack, running_stack
from luma_memory.cli.running import one_error, run_async
from luma_memory.cli.service import ServiceClient
from luma_memory.cli.waiting import (
    failed_blocks,
    wait_until_derived,
    wait_until_enriched,
)
from luma_memory.domain.errors import Invalid
from luma_memory.protocol.search import SearchHitBody

CLIENTS = 4
DEPTH = 10
QUESTIONS_SHOWN = 6
HITS_SHOWN = 3
_MARGIN_COLUMNS = 12
_USER = "demo"


@examples(
    "luma-memory demo",
    "luma-memory demo 'my conversation.json'",
    "luma-memory demo notes.jsonl --data-dir demo-data",
)
def demo(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            exists=True,
            dir_okay=False,
            help="A conversation (memory-retrieval/1) or JSON Lines; defaults to a sample.",
        ),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Ingest a conversation, query it and print measurements.

    Starts its own embedded database, API and worker and stops them at the end. Without --data-dir
    the data is removed. Exits with 1 if a block could not be enriched.
    """
    with _file_or_sample(file) as path:
        plans = read_plans(path)
        title = path.name if file is not None else "the sample conversation"
    out = console()
    out.print(Text(f"Luma Memory {__version__} · {printable(title)}", style="bold"))
    if failures := run_async(_demo(plans, data_dir, out)):
        print_note(f"{failures} blocks did not become active")
        raise typer.Exit(1)


@dataclass(slots=True)
class Plan:
    """What is stored for one user, and the questions about it."""

    stored: StoredConversation
    blocks: Sequence[ItemBlock]


@dataclass(slots=True)
class Figures:
    """Measured while ingesting."""

    accept_ms: list[float] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)
    enriched_seconds: float = 0.0

    def percentile(self, share: float) -> float:
        """The nearest rank."""
        ordered = sorted(self.accept_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def read_plans(path: Path) -> list[Plan]:
    """One plan per conversation or, for JSON Lines, a single one. Raises Invalid."""
    document = path.read_bytes()
    if looks_like_lines(document):
        return [_plan_of_lines(document)]
    stored = [
        StoredConversation(conversation, f"{_USER}-{number}")
        for number, conversation in enumerate(read_conversations(path).conversations, 1)
    ]
    return [
        Plan(entry, list(item_blocks(entry.conversation.items, user_id=entry.user_id)))
        for entry in stored
    ]


def _plan_of_lines(document: bytes) -> Plan:
    blocks = []
    for line in read_lines(document.splitlines(keepends=True), user_id=None):
        if not isinstance(line, BlockLine):
            raise Invalid(f"line {line.number}: {line.detail}", code=line.code)
        blocks.append(ItemBlock(str(line.number), line.body | {"user_id": _USER}))
    return Plan(
        StoredConversation(Conversation(id=_USER, speakers=[], items=[], queries=[]), _USER),
        blocks,
    )


async def _demo(plans: Sequence[Plan], data_dir: Path | None, out: Console) -> int:
    """Run the demo; returns how many blocks could not be enriched."""
    print_note("starting database, API and worker …")
    async with (
        _stack(data_dir) as stack,
        ServiceClient(stack.base_url, api_key=stack.settings.client_key) as client,
    ):
        health = await client.health()
        providers = ", ".join(f"{name} by {value}" for name, value in health.providers.items())
        out.print(plain(f"ready on {stack.base_url} · {providers}"), soft_wrap=True)
        figures = await _ingest(client, plans, stack)
        _print_figures(figures, out)
        failed = await failed_blocks(client, [plan.stored.user_id for plan in plans])
        for block in failed[:5]:
            print_note(f"a block could not be enriched: {block.error}")
        await _ask(client, plans, out)
    return len(failed)


@asynccontextmanager
async def _stack(data_dir: Path | None) -> AsyncIterator[Stack]:
    if data_dir is not None:
        async with running_stack(data_dir=data_dir) as stack:
            yield stack
        return
    with tempfile.TemporaryDirectory(prefix="luma-memory-demo-") as folder:
        async with running_stack(data_dir=Path(folder) / "data") as stack:
            yield stack


async def _ingest(client: ServiceClient, plans: Sequence[Plan], stack: Stack) -> Figures:
    total = sum(len(plan.blocks) for plan in plans)
    figures = Figures()
    users = [plan.stored.user_id for plan in plans]
    with progress("blocks active", total) as bar:
        await _accept_all(client, plans, figures)
        await wait_until_enriched(client, users, bar, check=stack.check)
        await wait_until_derived(client, users, check=stack.check)
    figures.enriched_seconds = time.perf_counter() - figures.started
    return figures


async def _accept_all(client: ServiceClient, plans: Sequence[Plan], figures: Figures) -> None:
    """Send with several clients, each one session at a time, so that turns stay in order."""
    waiting = iter([(plan, turns) for plan in plans for turns in sessions(plan.blocks)])

    async def one_client() -> None:
        await client.live()
        for plan, turns in waiting:
            for block in turns:
                await _accept(client, plan, block, figures)

    with one_error():
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(one_client())


async def _accept(client: ServiceClient, plan: Plan, block: ItemBlock, figures: Figures) -> None:
    started = time.perf_counter()
    block_id = (await client.accept(block.body)).id
    figures.accept_ms.append((time.perf_counter() - started) * 1000)
    plan.stored.items[block_id] = block.item_id


def _print_figures(figures: Figures, out: Console) -> None:
    count = len(figures.accept_ms)
    if not count:
        out.print("no blocks to store")
        return
    out.print(
        f"{count} blocks accepted by {CLIENTS} concurrent clients:"
        f" p50 {figures.percentile(0.5):.1f} ms, p99 {figures.percentile(0.99):.1f} ms"
    )
    rate = count / figures.enriched_seconds
    out.print(f"all active after {figures.enriched_seconds:.1f} s: {rate:.0f} blocks/s enriched")


async def _ask(client: ServiceClient, plans: Sequence[Plan], out: Console) -> None:
    questions = [
        (plan.stored, query) for plan in plans for query in plan.stored.conversation.queries
    ]
    if not questions:
        out.print("no questions in this file")
        return
    shown = {id(query) for _, query in _spread(questions, QUESTIONS_SHOWN)}
    found: list[tuple[Query, list[str]]] = []
    for stored, query in questions:
        ranking = await _ask_one(client, stored, query, out if id(query) in shown else None)
        found.append((query, ranking))
    _print_recall(found, out)


async def _ask_one(
    client: ServiceClient, stored: StoredConversation, query: Query, out: Console | None
) -> list[str]:
    response = await client.search(query.text, user_id=stored.user_id, limit=stored.limit(DEPTH))
    if out is not None:
        out.print()
        out.print(Text("? ", style="bold cyan") + plain(query.text, style="bold"), soft_wrap=True)
        if query.answer:
            out.print(
                plain(
                    f"  expected: {shortened(query.answer, out.width - _MARGIN_COLUMNS)}",
                    style="dim",
                )
            )
        for hit in response.results[:HITS_SHOWN]:
            mark = "✓" if stored.items.get(hit.block.id) in query.evidence else " "
            out.print(_hit_line(hit, mark, characters_max=out.width - _MARGIN_COLUMNS))
    return stored.ranking(response)


def _hit_line(hit: SearchHitBody, mark: str, *, characters_max: int) -> Text:
    block = hit.block
    text = f"{block.speaker}: {block.content}" if block.speaker else block.content
    return Text.assemble(
        (f"  {mark} ", "green"),
        (f"{hit.score:.2f}  ", "cyan"),
        plain(shortened(text, characters_max)),
    )


def _print_recall(found: Sequence[tuple[Query, list[str]]], out: Console) -> None:
    """How many questions have evidence (marked ✓ above) among the first ten results."""
    groups = list(dict.fromkeys(query.group for query, _ in found if query.evidence))
    out.print()
    for group in groups:
        scored = [(q, ranking) for q, ranking in found if q.group == group and q.evidence]
        hits = sum(hit_at(DEPTH, ranking, set(q.evidence)) for q, ranking in scored)
        recall = sum(recall_at(DEPTH, ranking, set(q.evidence)) for q, ranking in scored)
        name = "" if groups == ["main"] else f" ({group})"
        line = (
            f"{hits:.0f} of {len(scored)} questions{name} have evidence in the first {DEPTH};"
            f" recall@{DEPTH} {recall / len(scored):.2f}"
        )
        out.print(plain(line), soft_wrap=True)


def _spread(
    questions: Sequence[tuple[StoredConversation, Query]], count: int
) -> list[tuple[StoredConversation, Query]]:
    """`count` questions, spread evenly over the list."""
    step = max(1, len(questions) / count)
    return [questions[int(index * step)] for index in range(min(count, len(questions)))]


@contextmanager
def _file_or_sample(file: Path | None) -> Iterator[Path]:
    if file is not None:
        yield file
        return
    with as_file(files(__package__) / "sample_conversation.json") as path:
        yield path
