"""mem0's client at this service beside mem0's library: `python -m … URL DSN MEMORIES FOLDER`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from mem0 import Memory, MemoryClient

from benchmarks.comparison.facts import FACTS, texts
from benchmarks.comparison.local_embeddings import Mem0Embedder
from benchmarks.comparison.sides import RightResults, Sides, until_embedded
from luma_memory.providers.embedding.local import LocalEmbedder

USER: Final = "mem0-bench"
# Ours, then theirs, each while the other has nothing to do.
TURN: Final = 20
LIMIT: Final = 10


async def main(url: str, dsn: str, memories: int, folder: Path) -> dict[str, Any]:
    """Of both calls: medians in milliseconds, and how many results were right."""
    embedder = await LocalEmbedder.open()
    client = await asyncio.to_thread(MemoryClient, api_key="none", host=f"{url}/mem0")
    library: Any = await asyncio.to_thread(
        Memory.from_config,
        {
            "vector_store": {
                "provider": "pgvector",
                "config": {
                    "connection_string": dsn,
                    "collection_name": "mem0_bench",
                    "embedding_model_dims": embedder.model.dimension,
                    "hnsw": True,
                },
            },
            # Never called: nothing is inferred.
            "llm": {"provider": "openai", "config": {"api_key": "none"}},
            "embedder": {"provider": "openai", "config": {"api_key": "none"}},
            "history_db_path": str(folder / "history.db"),
        },
    )
    library.embedding_model = Mem0Embedder(embedder, asyncio.get_running_loop())
    adds = await _add(url, client, library, texts(memories, seed=7))
    searches, right = await _search(client, library)
    await embedder.close()
    return {"add": adds.to_json(), "search": searches.to_json(), "right": right.to_json()}


async def _add(url: str, client: Any, library: Any, stored: Sequence[str]) -> Sides:
    adds = Sides()
    for start in range(0, len(stored), TURN):
        some = stored[start : start + TURN]
        for text in some:
            await adds.add_ours(_call(client.add, [_message(text)], user_id=USER, infer=False))
        await until_embedded(url)
        for text in some:
            await adds.add_theirs(_call(library.add, [_message(text)], user_id=USER, infer=False))
    return adds


async def _search(client: Any, library: Any) -> tuple[Sides, RightResults]:
    searches, right = Sides(), RightResults()
    options: dict[str, Any] = {"filters": {"user_id": USER}, "top_k": LIMIT}
    for number, fact in enumerate(FACTS):
        ours, theirs = await searches.add(
            _call(client.search, fact.question, **options),
            _call(library.search, fact.question, **options),
        )
        right.add(number, _texts(ours), _texts(theirs))
    return searches, right


def _call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[[], Any]:
    return lambda: asyncio.to_thread(function, *arguments, **options)


def _message(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _texts(found: Any) -> list[str]:
    return [one["memory"] for one in found["results"]]


if __name__ == "__main__":
    _, url_, dsn_, memories_, folder_ = sys.argv
    print(json.dumps(asyncio.run(main(url_, dsn_, int(memories_), Path(folder_)))))
