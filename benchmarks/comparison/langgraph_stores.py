"""LumaStore beside LangGraph's PostgreSQL store: `python -m … URL DSN SIZE…`."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from langgraph.store.base import BaseStore, PutOp
from langgraph.store.postgres.aio import AsyncPostgresStore

from benchmarks.comparison.facts import FACTS, texts
from benchmarks.comparison.local_embeddings import LocalEmbeddings
from benchmarks.comparison.sides import RightResults, Sides, until_embedded
from luma_memory.integrations.langgraph import LumaStore
from luma_memory.providers.embedding.local import LocalEmbedder

BATCH: Final = 100
MEASURED_BATCHES: Final = 10  # the last ones of a size
GETS: Final = 200
LIMIT: Final = 10
LIVE: Final = "/api/v1/memory/health/live"


async def main(url: str, dsn: str, sizes: Sequence[int]) -> dict[str, Any]:
    """For each size, of all calls: medians in milliseconds, and how many results were right."""
    embedder = await LocalEmbedder.open()
    embeddings = LocalEmbeddings(embedder)
    index: Any = {"dims": embeddings.dimensions, "embed": embeddings, "fields": ["text"]}
    results = {}
    async with AsyncPostgresStore.from_conn_string(dsn, index=index) as theirs:
        await theirs.setup()
        for size in sizes:
            ours = LumaStore(url, user_id=f"langgraph-{size}", index=["text"])
            results[str(size)] = await _Comparison(url, ours, theirs, size).run()
            await ours.aclose()
    await embedder.close()
    return results


class _Comparison:
    def __init__(self, url: str, ours: BaseStore, theirs: BaseStore, size: int) -> None:
        self._url = url
        self._ours = ours
        self._theirs = theirs
        self._namespace = ("bench", str(size))
        self._values = {
            f"key-{number}": {"text": text, "number": number}
            for number, text in enumerate(texts(size, seed=size))
        }

    async def run(self) -> dict[str, Any]:
        puts, embedded = await self._put()
        gets, floor = await self._get()
        searches, right = await self._search()
        return {
            "abatch": puts.to_json(),
            "embedded": embedded.to_json(),
            "aget": gets.to_json(),
            "floor": floor.to_json(),
            "asearch": searches.to_json(),
            "right": right.to_json(),
        }

    async def _put(self) -> tuple[Sides, Sides]:
        """The last batches, each side while the other has nothing to do."""
        ops = [PutOp(self._namespace, key, value) for key, value in self._values.items()]
        batches = [ops[start : start + BATCH] for start in range(0, len(ops), BATCH)]
        first, measured = batches[:-MEASURED_BATCHES], batches[-MEASURED_BATCHES:]
        for batch in first:
            await self._ours.abatch(batch)
            await self._theirs.abatch(batch)
        await until_embedded(self._url)
        puts, embedded = Sides(), Sides()
        for batch in measured:
            await puts.add_ours(partial(self._ours.abatch, batch))
            embedded.ours.append(puts.ours[-1] + await until_embedded(self._url))
            await puts.add_theirs(partial(self._theirs.abatch, batch))
        embedded.theirs = puts.theirs
        return puts, embedded

    async def _get(self) -> tuple[Sides, Sides]:
        """Reads of both sides; beside theirs, a bare exchange over HTTP that reads nothing."""
        gets, floor = Sides(), Sides()
        keys = random.Random(1).choices(list(self._values), k=GETS)
        parts = urlsplit(self._url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)

        async def exchange() -> None:
            writer.write(f"GET {LIVE} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))

        for key in keys:
            found = await gets.add(
                partial(self._ours.aget, self._namespace, key),
                partial(self._theirs.aget, self._namespace, key),
            )
            for item in found:
                if item is None or item.value != self._values[key]:
                    raise AssertionError(f"wrong value of {key}: {item}")
            await floor.add_ours(exchange)
        writer.close()
        floor.theirs = gets.theirs
        return gets, floor

    async def _search(self) -> tuple[Sides, RightResults]:
        searches, right = Sides(), RightResults()
        for number, fact in enumerate(FACTS):
            options = {"query": fact.question, "limit": LIMIT}
            ours, theirs = await searches.add(
                partial(self._ours.asearch, self._namespace, **options),
                partial(self._theirs.asearch, self._namespace, **options),
            )
            right.add(
                number, [one.value["text"] for one in ours], [one.value["text"] for one in theirs]
            )
        return searches, right


if __name__ == "__main__":
    _, url_, dsn_, *sizes_ = sys.argv
    print(json.dumps(asyncio.run(main(url_, dsn_, [int(size) for size in sizes_]))))
