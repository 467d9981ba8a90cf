"""Two states of a scope with one mark show the same in every read that a replica may serve.

This is what lets a replica serve a read: see docs/adr/0027-read-replica.md.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from tests.support.postgres_majors import every_postgres
from tests.support.scope_machine import ScopeMachine, run_machine
from tests.support.scope_world import ADA, MODELS, World, embedder

from luma_memory.domain.block_selection import BlockSelection
from luma_memory.domain.item import ListNamespaces, SearchItems
from luma_memory.domain.search import EVERY_ITEM, ScanRequest, ScopeScan
from luma_memory.pipeline.recall.request import one_hot
from luma_memory.pipeline.text.questions import query_terms
from luma_memory.ports.block_lists import BlockChoice
from luma_memory.store.block_lists import PostgresBlockLists
from luma_memory.store.block_selections import PostgresBlockSelections
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.items import PostgresItemStore
from luma_memory.store.relations import PostgresRelationStore
from luma_memory.store.replicated import READS
from luma_memory.store.search import PostgresSearchStore
from luma_memory.store.snapshots import PostgresSnapshotStore
from luma_memory.store.user_lists import PostgresUserLists

Reads = Mapping[tuple[type, str], Callable[[Any, list[UUID], str], Coroutine[Any, Any, Any]]]
TERMS = query_terms("Where is Bea's grey kayak?")


async def _scan(store: PostgresSearchStore, _ids: list[UUID], model: str) -> list[tuple[Any, ...]]:
    request = ScanRequest(
        vector=(await embedder(model).embed_query("the grey kayak")).vector,
        embedding_model=model,
        terms=[one_hot([term]) for term in TERMS],
        all_terms=one_hot(TERMS),
        include_superseded=False,
        items=EVERY_ITEM,
    )
    return _rows(await store.scan(ADA, request))


def _rows(scan: ScopeScan) -> list[tuple[Any, ...]]:
    """In one order, and without NaN, which equals nothing."""
    ids = [scan.block_ids[at : at + 16] for at in range(0, len(scan.block_ids), 16)]
    columns = [scan.ordinals, scan.sessions, scan.instants, scan.speakers]
    weights = [map(repr, column) for column in (scan.dense, *scan.term_weights)]
    return sorted(zip(ids, *columns, *weights, strict=True))


async def _find(store: PostgresBlockStore, ids: list[UUID], _model: str) -> Any:
    return await store.read([(ADA, one) for one in ids]) if ids else []


ALL: Reads = {
    (PostgresSearchStore, "scan"): _scan,
    (PostgresSearchStore, "own_speaker"): lambda store, _ids, _model: store.own_speaker(ADA),
    (PostgresSnapshotStore, "page"): lambda store, _ids, model: store.page(
        ADA, model, "all", after=None, limit=500
    ),
    (PostgresBlockStore, "read"): _find,
    (PostgresRelationStore, "links"): lambda store, ids, _model: store.links(ADA, ids, limit=50),
    (PostgresRelationStore, "page"): lambda store, _ids, _model: store.page(
        ADA, limit=50, before=None, block_id=None, relation_type=None, status=None
    ),
    (PostgresBlockLists, "page"): lambda store, _ids, _model: store.page(
        BlockChoice({ADA: None}), offset=0, limit=50
    ),
    (PostgresBlockLists, "groups"): lambda store, _ids, _model: store.groups(
        ADA.project_id, user_id=ADA.user_id, offset=0, limit=50
    ),
    (PostgresBlockSelections, "page"): lambda store, _ids, _model: store.page(
        BlockSelection(project_id=ADA.project_id, user_id=ADA.user_id), before=None, limit=50
    ),
    (PostgresItemStore, "page"): lambda store, _ids, _model: store.page(
        ADA, SearchItems(refresh_ttl=False)
    ),
    (PostgresItemStore, "namespaces"): lambda store, _ids, _model: store.namespaces(
        ADA, ListNamespaces()
    ),
    (PostgresItemStore, "read_by_id"): lambda store, ids, _model: store.read_by_id(
        ADA, ids, refresh_ttl=False
    ),
    (PostgresUserLists, "sessions"): lambda store, _ids, _model: store.sessions(
        ADA, after=None, limit=50
    ),
    (PostgresUserLists, "terms"): lambda store, _ids, _model: store.terms(ADA, limit=50),
}
_OF_ITEMS = {
    *((PostgresSearchStore, "scan"), (PostgresSnapshotStore, "page"), (PostgresBlockStore, "read")),
    *((PostgresItemStore, name) for name in ("page", "namespaces", "read_by_id")),
}
_MARK = """
SELECT u.version, (SELECT m.changed_at FROM memory_scope_models AS m WHERE m.user_id = 'ada'),
       -- What expires does so without a change, and at the same time everywhere.
       ARRAY(SELECT b.id FROM memory_blocks AS b WHERE b.user_id = 'ada' AND b.key IS NULL
             AND b.expires_at <= clock_timestamp() ORDER BY b.id) AS expired,
       EXISTS (SELECT FROM memory_blocks AS b
               WHERE b.user_id = 'ada' AND b.ttl_seconds IS NOT NULL) AS may_renew
FROM memory_users AS u WHERE u.user_id = 'ada'
"""

_IDS = "SELECT id FROM memory_blocks WHERE user_id = 'ada' ORDER BY id"


def test_every_read_of_a_replica_is_compared() -> None:
    assert {(store, name) for store, reads in READS.items() for name in reads} == set(ALL)


class MarkMachine(ScopeMachine):
    def __init__(self) -> None:
        super().__init__()
        self._marks = 0
        self._seen: tuple[Any, dict[tuple[type, str], Any]] = (None, {})
        database = self.world.database
        self._stores: dict[type, Any] = {
            kind: kind(database)
            for kind in READS
            if kind not in (PostgresBlockStore, PostgresItemStore)
        } | {PostgresBlockStore: self.world.blocks, PostgresItemStore: self.world.items}

    def check(self) -> None:
        before = self.world.rows(_MARK)
        ids = [row["id"] for row in self.world.rows(_IDS)]
        found = {
            key: self.world.run(read(self._stores[key[0]], ids, MODELS[0]))
            for key, read in ALL.items()
            if not (before and before[0]["may_renew"] and key in _OF_ITEMS)
        }
        if not before or before != self.world.rows(_MARK):
            return  # no mark, or a block expired in between
        mark, shown = self._seen
        if mark == before:
            for key, result in found.items():
                assert result == shown.get(key, result), f"{key} changed, and the mark did not"
        self._seen = (before, found)


@every_postgres
def test_a_mark_stands_for_what_a_scope_shows(dsn: str) -> None:
    run_machine(MarkMachine, dsn, examples=8, steps=20)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@every_postgres
def test_a_mark_stands_for_what_a_scope_shows_in_many_long_orders(dsn: str) -> None:
    run_machine(MarkMachine, dsn, examples=200, steps=50)


def test_a_change_without_a_version_is_found(dsn: str) -> None:
    """The comparison itself can fail."""
    world = World(dsn)
    machine: MarkMachine = type("Machine", (MarkMachine,), {"world": world})()
    machine.ingest(ADA, ["kayak one"], "s1", None, 0, None)
    machine.check()
    world.change("UPDATE memory_blocks SET title = 'changed', updated_at = $1", datetime.now(UTC))
    with pytest.raises(AssertionError, match="changed, and the mark did not"):
        machine.check()
    world.close()


def test_the_jobs_of_waiting_blocks_change_their_mark(dsn: str) -> None:
    """A list of blocks names each one's job."""
    world = World(dsn)
    machine: MarkMachine = type("Machine", (MarkMachine,), {"world": world})()
    machine.ingest(ADA, ["kayak one"], "s1", None, 0, None)
    world.change("DELETE FROM memory_jobs")
    machine.check()
    world.rows("SELECT enqueue_waiting_memory_blocks('default', 'ada')")
    machine.check()
    world.close()
