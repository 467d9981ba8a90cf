"""`python -m tests.support.never_stale DSN REDIS_URL SEED SECONDS`: one process that writes and
queries at random, and exits with 1 after a stale or wrong result.

Other processes do the same to the same users concurrently. A cached result is compared with a fresh
one computed right after it, if the scope's version stayed the same meanwhile; it must also contain
no block that this process deleted before the query.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from tests.support.context_replica import Replica, replica

from luma_memory.domain.block import Accepted
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.ingest.indexing import index_passages
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.scope_versions import PostgresScopeVersions
from luma_memory.testing.sample_blocks import OCCURRED_AT, ingest_item, new_block

USERS = ("ada", "bea", "cleo")
QUERIES = ("Where is the kayak?", "What about the cat?", "Who sold the old boat in May?")
WORDS = ("kayak", "cat", "boat", "May", "garage", "sold", "river", "grey", "old", "flat")
_TOUCH = """
UPDATE memory_users SET version = memory_next_version(version, clock_timestamp())
WHERE project_id = 'default' AND user_id = $1
"""


@dataclass
class Report:
    """What one run saw."""

    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class Process:
    """One process's random doings."""

    def __init__(self, parts: Replica, seed: int) -> None:
        self._parts = parts
        self._random = random.Random(seed)
        self._database = parts.database
        self._versions = PostgresScopeVersions(parts.database)
        self._store = PostgresBlockStore(parts.database, attempts_max=3)
        self._deleted: set[UUID] = set()
        self.report = Report()

    async def step(self) -> None:
        """One act: mostly questions, as in life."""
        user = self._random.choice(USERS)
        act = self._random.choices(
            (self.ask, self.write, self.edit, self.delete, self.supersede, self.expire, self.erase),
            weights=(70, 8, 5, 5, 4, 7, 1),
        )[0]
        self.report.counts[act.__name__] += 1
        await act(user)

    async def ask(self, user: str) -> None:
        scope, query = Scope("default", user), self._random.choice(QUERIES)
        gone = set(self._deleted)
        before = await self._versions.state(scope)
        response = await self._parts.ask(scope, query)
        fresh = await self._parts.fresh(scope, query)
        after = await self._versions.state(scope)
        is_cached = response.age_seconds is not None
        self.report.counts["cached" if is_cached else "computed"] += 1
        back = {block.id for block in response.context.blocks} & gone
        if back:
            self.report.wrong.append(f"deleted blocks in an answer, cached={is_cached}: {back}")
        if before.version == after.version and before.next_expiry_at == after.next_expiry_at:
            self.report.counts["checked, cached" if is_cached else "checked, computed"] += 1
            if response.context != fresh:
                self.report.wrong.append(f"cached={is_cached}: {response.context} is not {fresh}")

    async def write(self, user: str, *, expires_at: datetime | None = None) -> None:
        text = " ".join(self._random.choices(WORDS, k=6))
        item = ingest_item(new_block(text, user_id=user, expires_at=expires_at))
        (response,) = await self._store.ingest([item], lease=None)
        assert isinstance(response, Accepted)

    async def expire(self, user: str) -> None:
        """A block that is gone in a moment, without any write."""
        soon = timedelta(milliseconds=self._random.randrange(20, 400))
        await self.write(user, expires_at=datetime.now(UTC) + soon)

    async def edit(self, user: str) -> None:
        block_id = await self._some_block(user)
        if block_id is None:
            return
        text = " ".join(self._random.choices(WORDS, k=6))
        (passage,) = index_passages(text, speaker=None, occurred_at=OCCURRED_AT)
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(_TOUCH, user)
            await connection.execute(
                "UPDATE memory_blocks SET content = $3, revision = revision + 1"
                " WHERE project_id = 'default' AND user_id = $1 AND id = $2",
                *(user, block_id, text),
            )
            await connection.execute(
                "UPDATE memory_passages SET lexemes = $3, stop_at = $4, embedding = NULL,"
                " embedding_model = NULL"
                " WHERE project_id = 'default' AND user_id = $1 AND block_id = $2",
                *(user, block_id, passage.lexemes, passage.stop),
            )

    async def delete(self, user: str) -> None:
        block_id = await self._some_block(user)
        if block_id is None:
            return
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(_TOUCH, user)
            for table, column in (("memory_passages", "block_id"), ("memory_blocks", "id")):
                await connection.execute(
                    f"DELETE FROM {table} WHERE project_id = 'default' AND user_id = $1"
                    f" AND {column} = $2",
                    *(user, block_id),
                )
        self._deleted.add(block_id)

    async def supersede(self, user: str) -> None:
        old, new = await self._some_block(user), await self._some_block(user)
        if old is None or new is None or old == new:
            return
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(_TOUCH, user)
            await connection.execute(
                "UPDATE memory_blocks SET superseded_by = $3, superseded_at = now()"
                " WHERE project_id = 'default' AND user_id = $1 AND id = $2",
                *(user, old, new),
            )

    async def erase(self, user: str) -> None:
        """The user goes with everything, the version included, and comes back with it unknown."""
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute("SELECT FROM memory_users WHERE user_id = $1 FOR UPDATE", user)
            for table in ("memory_passages", "memory_blocks", "memory_users"):
                await connection.execute(
                    f"DELETE FROM {table} WHERE project_id = 'default' AND user_id = $1", user
                )

    async def _some_block(self, user: str) -> UUID | None:
        rows = await self._database.fetch(
            "SELECT id FROM memory_blocks WHERE project_id = 'default' AND user_id = $1", user
        )
        return self._random.choice([row["id"] for row in rows]) if rows else None


async def run(dsn: str, redis_url: str, *, seed: int, seconds: float) -> Report:
    """Act for so long."""
    async with replica(dsn, redis_url) as parts:
        process = Process(parts, seed)
        ends = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < ends and not process.report.wrong:
            await process.step()
        return process.report


def main() -> int:
    dsn, redis_url, seed, seconds = sys.argv[1:]
    report = asyncio.run(run(dsn, redis_url, seed=int(seed), seconds=float(seconds)))
    print(dict(report.counts), *report.wrong[:3], sep="\n")
    enough = min(report.counts["checked, cached"], report.counts["checked, computed"]) > 5
    return 0 if enough and not report.wrong else 1


if __name__ == "__main__":
    raise SystemExit(main())
