"""`benchmarks.quality` ranks conversations in memory as the service ranks what it stored."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.quality.budgets import CHOICES, budget_table
from benchmarks.quality.left_out import left_out_table
from benchmarks.quality.questions import AS_BUILT as RANKED_AS_BUILT
from benchmarks.quality.questions import QuestionSet, ranked, read_set
from benchmarks.quality.scopes import AS_BUILT as STORED_AS_BUILT
from benchmarks.quality.scopes import Embeddings
from benchmarks.quality.variants import VARIANTS, ablation_table

import luma_memory.cli
from luma_memory.cli.conversations import StoredConversation
from luma_memory.cli.evaluation.run import run_queries
from luma_memory.cli.processes import Stack
from luma_memory.domain.clock import SystemClock
from luma_memory.providers.completion.extract.question import LocalQuestionReader
from luma_memory.providers.embedding.local import LocalEmbedder

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAMPLE = Path(luma_memory.cli.__file__).with_name("sample_conversation.json")
BEST = 10


async def _sample(embedder: LocalEmbedder) -> QuestionSet:
    return await read_set(SAMPLE, Embeddings(embedder), LocalQuestionReader(SystemClock()))


async def test_the_ranking_is_that_of_the_service(stack: Stack) -> None:
    embedder = await LocalEmbedder.open()
    try:
        questions = await _sample(embedder)
        in_memory = await ranked(questions, STORED_AS_BUILT, RANKED_AS_BUILT)
    finally:
        await embedder.close()
    stored = StoredConversation(questions.chats[0].conversation, "quality-in-memory")
    results = await run_queries([stored], stack.base_url, 2, ())
    of_service = {result.query.id: result.ranking for result in results}
    assert len(in_memory) > BEST
    for entry in in_memory:
        best = [block.item_id for block in entry.blocks[:BEST]]
        assert best == of_service[entry.query.id][:BEST], entry.query.text


async def test_each_table_has_a_row_for_each_variant() -> None:
    embedder = await LocalEmbedder.open()
    try:
        questions = await _sample(embedder)
        ablation = (await ablation_table([questions])).splitlines()
        budgets = await budget_table([questions])
        left_out = await left_out_table([questions, questions])
    finally:
        await embedder.close()
    assert len(ablation) == 2 + len(VARIANTS)
    assert len(set(ablation[2:])) > len(VARIANTS) / 2  # taking parts away changes the figures
    assert all(f"| {name} |" in budgets for name in CHOICES)
    assert left_out.count("as built") == 2
