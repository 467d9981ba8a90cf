"""Anything that changes a scope, in any order, by the functions that change it in life.

A subclass keeps a copy of the scope that it brings up to date from the log of changes, and compares
it after every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import uuid4

import asyncpg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.support.scope_world import ADA, BEA, MODELS, World, embedder

from luma_memory.domain.enrichment import Vector
from luma_memory.domain.ids import IdMaker
from luma_memory.domain.item import (
    DeleteItem,
    GetItem,
    ItemName,
    ItemWrite,
    PreparedWrite,
    PreparedWrites,
    PutItem,
)
from luma_memory.domain.job import Job, JobFilter, JobType
from luma_memory.domain.scope import Scope
from luma_memory.domain.windows import MadeWindow
from luma_memory.pipeline.ingest.indexing import index_passages
from luma_memory.ports.blocks import EnrichedBlock, EnrichedPassage
from luma_memory.testing.sample_blocks import OCCURRED_AT, ingest_item, new_block

_WORDS = ["kayak", "cat", "boat", "May", "garage", "sold", "river", "grey", "old", "Bea", "E0277"]
_WORKER = "machine"
_LEASE = timedelta(hours=1)
_JOB_TYPES: Sequence[JobType] = ("enrich_and_embed", "reembed", "detect_relations")

indexes = st.integers(0, 1_000)
texts = st.lists(st.sampled_from(_WORDS), min_size=2, max_size=7).map(" ".join)
sessions = st.sampled_from([None, "s1", "s2"])
speakers = st.sampled_from([None, "Bea Smith", "user"])
minutes = st.integers(0, 6)
names = st.builds(
    ItemName,
    st.sampled_from([("a",), ("a", "b"), ("a", "b", "c"), ("ab",), ("line\u2028break", "a")]),
    st.sampled_from(["one", "two"]),
)
times_to_live = st.sampled_from([None, None, 3600.0, 0.02])


class ScopeMachine(RuleBasedStateMachine):
    """Changes Ada's scope; Bea's scope must stay unaffected."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.model = MODELS[0]
        self._ids = IdMaker()
        self.chain_is_broken = False  # by what this machine did since the last check
        self.world.change(
            "TRUNCATE memory_jobs, memory_users, memory_blocks, memory_passages, memory_workers,"
            " memory_block_revisions, memory_relations, memory_changes, memory_scope_models,"
            " memory_next_passages, memory_idempotency, memory_erasures CASCADE"
        )

    def check(self) -> None:
        """The copy, brought up to date, equals the scope."""
        raise NotImplementedError

    @invariant()
    def copy_equals_scope(self) -> None:
        self.check()
        self.chain_is_broken = False

    @rule(
        scope=st.sampled_from([ADA, ADA, ADA, BEA]),
        contents=st.lists(texts, min_size=1, max_size=3),
        session=sessions,
        speaker=speakers,
        minute=minutes,
        key=st.sampled_from([None, None, "once"]),
    )
    def ingest(
        self,
        scope: Scope,
        contents: list[str],
        session: str | None,
        speaker: str | None,
        minute: int,
        key: str | None,
    ) -> None:
        items = [
            ingest_item(
                new_block(
                    content,
                    user_id=scope.user_id,
                    session_id=session,
                    speaker=speaker,
                    occurred_at=OCCURRED_AT + timedelta(minutes=minute + number),
                    external_id=key if number == 0 else None,
                )
            )
            for number, content in enumerate(contents)
        ]
        self.world.run(self.world.blocks.ingest(items, lease=None))

    @rule(content=texts, milliseconds=st.sampled_from([15, 40]))
    def ingest_for_a_moment(self, content: str, milliseconds: int) -> None:
        """A block that is gone soon, without any write."""
        soon = datetime.now(UTC) + timedelta(milliseconds=milliseconds)
        item = ingest_item(new_block(content, user_id="ada", expires_at=soon))
        self.world.run(self.world.blocks.ingest([item], lease=None))
        self.check()
        self.chain_is_broken = False
        self.world.change("SELECT pg_sleep($1)", milliseconds / 1000)

    @rule(
        scope=st.sampled_from([ADA, ADA, ADA, BEA]),
        names=st.lists(names, min_size=1, max_size=3),
        content=st.one_of(texts, texts, st.just("")),
        number=st.integers(0, 3),
        ttl_seconds=times_to_live,
        refreshes=st.booleans(),
    )
    def put_items(
        self,
        scope: Scope,
        names: list[ItemName],
        content: str,
        number: int,
        ttl_seconds: float | None,
        refreshes: bool,
    ) -> None:
        self._write(
            scope,
            [
                PutItem(
                    name=name,
                    value={"text": content, "number": number + position},
                    ttl_seconds=ttl_seconds,
                    refresh_on_read=refreshes,
                )
                for position, name in enumerate(names)
            ],
        )

    @rule(name=names, content=texts)
    def replace_and_delete_item(self, name: ItemName, content: str) -> None:
        """In one statement, a later write of it too if there is another name."""
        self._write(ADA, [PutItem(name=name, value={"text": content}), DeleteItem(name=name)])

    @rule(name=names)
    def delete_item(self, name: ItemName) -> None:
        self._write(ADA, [DeleteItem(name=name)])

    @rule(name=names)
    def read_item(self, name: ItemName) -> None:
        """Begins its time to live anew, which is not logged."""
        self.world.run(self.world.items.read(ADA, [GetItem(name=name, refresh_ttl=True)]))

    @rule(milliseconds=st.sampled_from([5, 25]))
    def items_expire(self, milliseconds: int) -> None:
        self.world.change("SELECT pg_sleep($1)", milliseconds / 1000)

    @rule()
    def delete_expired_items(self) -> None:
        self.world.change("SELECT delete_expired_memory_items(10)")

    @rule(limit=st.integers(1, 4), has_vectors=st.booleans())
    def write_back(self, limit: int, has_vectors: bool) -> None:
        for job in self._claimed(limit):
            result = self._result(job, has_vectors) if job.job_type == "enrich_and_embed" else None
            if result is None:
                self.world.run(self.world.queue.complete(_WORKER, [job]))
            else:
                self.world.run(self.world.blocks.write_back(_WORKER, [result]))

    @rule(index=indexes)
    def store_some_vectors(self, index: int) -> None:
        if (block := self._block(index, items=True)) is None:
            return
        vector = self._vector("some kayak")
        self.world.run(
            self.world.blocks.store_vectors(
                ADA, block["id"], {0: vector}, revision=block["revision"], model_id=self.model
            )
        )

    @rule(made=indexes, dropped=st.none() | indexes, content=texts, forgets_keys=st.booleans())
    def windows(self, made: int, dropped: int | None, content: str, forgets_keys: bool) -> None:
        block = self._block(made)
        if block is None:
            return
        gone = self._block(dropped) if dropped is not None else None
        if forgets_keys:  # as passages were before there were keys, by hand
            self.world.change("UPDATE memory_passages SET speaker_key = NULL WHERE ordinal >= 0")
            self._raise_by_hand()
            self.check()
            self.chain_is_broken = False
        turns = [row["id"] for row in self._blocks()]
        self.world.run(
            self.world.windows.store(
                ADA,
                [] if forgets_keys else [MadeWindow(block["id"], 7, self._vector(content))],
                embedding_model=self.model,
                dropped=[gone["id"]] if gone is not None else [],
                turns=turns,
            )
        )

    @rule(
        index=indexes,
        content=st.none() | texts,
        session=sessions,
        expires=st.booleans(),
        minute=st.none() | minutes,
    )
    def edit(
        self,
        index: int,
        content: str | None,
        session: str | None,
        expires: bool,
        minute: int | None = None,
    ) -> None:
        if (block := self._block(index)) is None:
            return
        changes: dict[str, Any] = {"session_id": session}
        if content is not None:
            changes["content"] = content
        if expires:
            changes["expires_at"] = "2024-01-01T00:00:00Z"
        if minute is not None:
            changes["occurred_at"] = (OCCURRED_AT + timedelta(minutes=minute)).isoformat()
        passages = None
        if content is not None or minute is not None:
            passages = index_passages(
                content or block["content"], speaker=None, occurred_at=OCCURRED_AT
            )
        self.world.run(
            self.world.editor.edit(
                ADA,
                block["id"],
                revision=block["revision"],
                changed_by="user",
                changes=changes,
                content_hash=content.encode() if content else None,
                passages=passages or None,
            )
        )

    @rule(index=indexes)
    def delete(self, index: int) -> None:
        if (block := self._block(index)) is not None:
            self.world.run(self.world.editor.delete(ADA, block["id"], revision=None))

    @rule(first=indexes, second=indexes)
    def supersede(self, first: int, second: int) -> None:
        one, other = self._block(first), self._block(second)
        if one is None or other is None or one["id"] == other["id"]:
            return
        (job,) = self.world.rows(
            """INSERT INTO memory_jobs (project_id, user_id, block_id, job_type, status, attempts,
                   locked_by, locked_until, fair_at)
               VALUES ('default', 'ada', $1, 'detect_relations', 'processing', 1, $2,
                   now() + interval '1 hour', now()) RETURNING id""",
            *(one["id"], _WORKER),
        )
        self.world.rows(
            """SELECT * FROM relate_memory_block($1, $2, 1, 'default', 'ada', ARRAY[$3::uuid],
                   ARRAY[$4::uuid], ARRAY[$5::uuid], ARRAY['supersedes'], ARRAY[0.9::real],
                   ARRAY['words'], 'm', ARRAY[$4::uuid, $5], ARRAY[$6::integer, $7])""",
            *(_WORKER, job["id"], uuid4(), one["id"], other["id"]),
            *(one["revision"], other["revision"]),
        )

    @rule(index=indexes, status=st.sampled_from(["accepted", "rejected"]))
    def decide(self, index: int, status: str) -> None:
        found = self.world.rows("SELECT id FROM memory_relations ORDER BY id")
        if found:
            self.world.rows(
                "SELECT decide_memory_relation('default', 'ada', $1, $2, 'user')",
                *(found[index % len(found)]["id"], status),
            )

    @rule(fails=st.booleans())
    def cancel_or_retry(self, fails: bool) -> None:
        which = JobFilter(project_id="default", user_id="ada")
        if fails:
            self.world.run(self.world.control.cancel(which, limit=5))
        else:
            self.world.rows(
                "SELECT retry_memory_jobs(ARRAY(SELECT id FROM memory_jobs WHERE user_id = 'ada'))"
            )

    @rule()
    def erase(self) -> None:
        _, last = self.world.run(self.world.erasures.sweep_jobs(ADA))
        self.world.run(
            self.world.erasures.erase(
                ADA,
                erasure_id=uuid4(),
                key_digest=None,
                started_at=datetime.now(UTC),
                last_job=last,
                swept=0,
                cached=0,
            )
        )
        self.model = MODELS[0]
        self.chain_is_broken = True

    @rule(source=st.sampled_from([ADA, BEA]))
    def import_(self, source: Scope) -> None:
        async def copy() -> None:
            kept = [(kind, list(rows)) async for kind, rows in self.world.archive.rows(source)]
            for kind, rows in kept:
                if kind in ("users", "blocks", "passages"):
                    await self.world.connection.fetch(
                        "SELECT import_memory_rows('default', 'ada', $1, $2::jsonb[])",
                        *(f"memory_{kind}", rows),
                    )

        if source == BEA:  # ids of blocks are unique: Bea's move
            self.world.change("DELETE FROM memory_jobs WHERE user_id = 'bea'")
        self.world.run(copy())
        self.chain_is_broken = True

    @rule(content=texts)
    def switch_models(self, content: str) -> None:
        model = MODELS[1 - MODELS.index(self.model)]

        async def move() -> None:
            stale = await self.world.vectors.stale(ADA, model, limit=100)
            vectors = [
                (passage, await _embedded(passage.text + content, model)) for passage in stale
            ]
            await self.world.vectors.put(ADA, model, vectors)
            await self.world.vectors.switch(ADA, model)

        if not self.world.rows("SELECT FROM memory_users WHERE user_id = 'ada'"):
            return
        self.world.run(move())
        self.model = model
        self.chain_is_broken = True

    @rule()
    def change_by_hand(self) -> None:
        """As an operator may: the version is raised, and nothing is logged."""
        self.world.change(
            "DELETE FROM memory_passages WHERE user_id = 'ada' AND block_id ="
            " (SELECT max(block_id::text)::uuid FROM memory_passages WHERE user_id = 'ada')"
        )
        self._raise_by_hand()

    @precondition(lambda self: not self.chain_is_broken)
    @rule(content=texts, how=st.sampled_from(["prune", "crash"]))
    def lose_the_log(self, content: str, how: str) -> None:
        self.ingest(ADA, [content], None, None, 0, None)
        if how == "crash":  # PostgreSQL empties unlogged tables
            self.world.change("TRUNCATE memory_changes")
        else:
            self.world.change("UPDATE memory_changes SET version = version - 3600000000")
            self.world.change("SELECT prune_memory_jobs(now(), now())")
            assert self.world.rows("SELECT FROM memory_changes") == []
        self.ingest(ADA, [content + " again"], None, None, 1, None)
        self.chain_is_broken = True

    def _raise_by_hand(self) -> None:
        self.world.change(
            "UPDATE memory_users SET version = memory_next_version(version, now())"
            " WHERE user_id = 'ada'"
        )
        self.chain_is_broken = True

    def _write(self, scope: Scope, writes: Sequence[ItemWrite]) -> None:
        prepared = [
            PreparedWrite(
                write=write,
                changed_by="user",
                id=self._ids.make(),
                content=content,
                passages=index_passages(content, speaker=None, occurred_at=OCCURRED_AT)
                if content
                else (),
            )
            for write in writes
            for content in [write.value["text"] if isinstance(write, PutItem) else ""]
        ]
        self.world.run(self.world.items.write([PreparedWrites(scope, prepared)]))

    def _blocks(self, *, items: bool = False) -> list[asyncpg.Record]:
        """Without items, which have other statements, unless requested."""
        return self.world.rows(
            "SELECT id, revision, content FROM memory_blocks"
            " WHERE user_id = 'ada' AND (key IS NULL OR $1) ORDER BY id",
            items,
        )

    def _block(self, index: int, *, items: bool = False) -> asyncpg.Record | None:
        found = self._blocks(items=items)
        return found[index % len(found)] if found else None

    def _claimed(self, limit: int) -> Sequence[Job]:
        return self.world.run(
            self.world.queue.claim(
                _WORKER, limit=limit, lease=_LEASE, job_types=_JOB_TYPES, rescue=False
            )
        )

    def _result(self, job: Job, has_vectors: bool) -> EnrichedBlock | None:
        assert job.block_id is not None
        (block,) = self.world.run(self.world.blocks.read([(job.scope, job.block_id)]))
        if block is None:
            return None
        passages = [
            EnrichedPassage(text, self._vector(block.content) if has_vectors else None)
            for text in index_passages(
                block.content, speaker=block.speaker, occurred_at=block.occurred_at
            )
        ]
        return EnrichedBlock(job, block.revision, None, None, passages, self.model)

    def _vector(self, text: str) -> Vector:
        return self.world.run(_embedded(text, self.model))


async def _embedded(text: str, model: str) -> Vector:
    return (await embedder(model).embed_query(text)).vector


def run_machine(machine: type[ScopeMachine], dsn: str, *, examples: int, steps: int) -> None:
    """Run it on a database of its own."""
    world = World(dsn)
    concrete = type(machine.__name__, (machine,), {"world": world})
    try:
        run_state_machine_as_test(
            concrete,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        world.close()
