"""`python -m benchmarks.quality conversations.json…`: what each part of the ranking contributes.

Files in the format memory-retrieval/1, each a set of its own. Needs no server: see `scopes`.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import luma_memory.single_thread_blas  # noqa: F401 - before anything imports numpy
from benchmarks.quality.budgets import budget_table
from benchmarks.quality.left_out import left_out_table
from benchmarks.quality.questions import read_set
from benchmarks.quality.scopes import Embeddings
from benchmarks.quality.variants import ablation_table
from luma_memory.domain.clock import SystemClock
from luma_memory.providers.completion.extract.question import LocalQuestionReader
from luma_memory.providers.embedding.local import LocalEmbedder

TABLES = {"ablation": ablation_table, "left-out": left_out_table, "budgets": budget_table}


async def _main(arguments: argparse.Namespace) -> None:
    embedder = await LocalEmbedder.open(arguments.model)
    reader = LocalQuestionReader(SystemClock())
    try:
        sets = [await read_set(path, Embeddings(embedder), reader) for path in arguments.files]
        for name in arguments.table or TABLES:
            print(await TABLES[name](sets), flush=True)
    finally:
        await embedder.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--table", action="append", choices=TABLES, help="may be repeated")
    parser.add_argument("--model", help="as MEMORY_LOCAL_MODEL; by default the included one")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(_main(_arguments()))
