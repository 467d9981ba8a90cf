"""Items in snapshots: namespaces, times to live, and entries of the log by earlier versions."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest
from tests.support.running import ingest
from tests.support.scope_world import ADA, MODELS
from tests.support.snapshots import QUERIES, new_recall, new_snapshots, top

from luma_memory.domain.ids import IdMaker
from luma_memory.domain.item import (
    GetItem,
    Item,
    ItemName,
    PreparedWrite,
    PreparedWrites,
    PutItem,
)
from luma_memory.domain.search import ItemSelection, Selection, every_row
from luma_memory.pipeline.ingest.indexing import index_passages
from luma_memory.pipeline.recall.scope_snapshot import View
from luma_memory.pipeline.recall.snapshots import Snapshots
from luma_memory.postgres.database import Database
from luma_memory.store.items import PostgresItemStore
from luma_memory.testing.sample_blocks import OCCURRED_AT, new_block


async def _write(database: Database, *texts: str) -> None:
    await ingest(database, *(new_block(text, user_id="ada") for text in texts))


async def _loaded(database: Database) -> Snapshots:
    """Snapshots that hold Ada's scope, by two searches."""
    snapshots = new_snapshots(database)
    recall = new_recall(database, snapshots)
    for _ in range(2):
        await top(recall, QUERIES[0])
    await snapshots.loaded()
    return snapshots


async def _put_items(database: Database, *texts: str) -> list[Item]:
    """In the namespaces (n0,), (n1,) … in turns of three."""
    store = PostgresItemStore(database, attempts_max=3)
    ids = IdMaker()
    names = [ItemName((f"n{number % 3}",), text) for number, text in enumerate(texts)]
    writes = [
        PreparedWrite(
            write=PutItem(name=name, value={"text": name.key}, ttl_seconds=3600.0),
            changed_by="user",
            id=ids.make(),
            content=name.key,
            passages=index_passages(name.key, speaker=None, occurred_at=OCCURRED_AT),
        )
        for name in names
    ]
    await store.write([PreparedWrites(ADA, writes)])
    found = await store.read(ADA, [GetItem(name=name) for name in names])
    return [item for item in found if item is not None]


async def _loaded_items(database: Database) -> Snapshots:
    snapshots = new_snapshots(database)
    for _ in range(2):
        await top(new_recall(database, snapshots), QUERIES[0], items=ItemSelection())
    await snapshots.loaded()
    return snapshots


async def test_an_item_whose_time_was_extended_without_an_entry_stays_found(
    database: Database, connection: asyncpg.Connection
) -> None:
    (item, other) = await _put_items(database, "Bea's grey kayak", "the old boat")
    statement = "UPDATE {} SET expires_at = now() + $2::interval WHERE {} = ANY ($1)"
    tables = (("memory_blocks", "id"), ("memory_passages", "block_id"))

    async def expire(after: timedelta, *ids: UUID) -> None:
        for table, column in tables:
            await connection.execute(statement.format(table, column), ids, after)

    for seconds in (0.2, 2, 20):  # whatever a busy machine takes to load them
        await expire(timedelta(seconds=seconds), item.id, other.id)
        snapshots = await _loaded_items(database)
        if snapshots.holds(ADA):
            current = await snapshots.current(ADA, MODELS[0], (), every_row("items"))
            assert current is not None
            end = "SELECT expires_at FROM memory_blocks WHERE id = $1"
            expires_at = await connection.fetchval(end, other.id)
            if await connection.fetchval("SELECT clock_timestamp() < $1", expires_at):
                break
        await snapshots.close()
    else:
        pytest.fail("the items were not loaded")
    # As the read of an item extends it while it is there, whenever that is.
    await expire(timedelta(hours=1), item.id)
    await connection.execute(
        "SELECT pg_sleep_until($1)",
        expires_at,
    )
    loaded = snapshots.counts.loaded
    found = await top(new_recall(database, snapshots), QUERIES[0], items=ItemSelection())
    assert [hit.block.id for hit in found.hits] == [item.id]
    assert snapshots.counts.loaded == loaded
    await snapshots.close()


async def test_an_entry_of_an_earlier_versions_function_ends_copies_of_items_only(
    database: Database, connection: asyncpg.Connection
) -> None:
    await _write(database, "The kayak is in the garage.")
    await _put_items(database, "Bea's grey kayak")
    blocks, items = await _loaded(database), await _loaded_items(database)
    (late,) = await _put_items(database, "a boat in May")
    # What write_memory_items logged before 0030.
    await connection.execute(
        "UPDATE memory_changes SET block_ids = '{}', has_items = false WHERE version ="
        " (SELECT max(version) FROM memory_changes)"
    )
    await top(new_recall(database, blocks), QUERIES[0])
    assert blocks.counts.used == 1
    found = await top(new_recall(database, items), "boat May", items=ItemSelection())
    assert late.id in [hit.block.id for hit in found.hits]
    assert items.counts.used == 0
    await items.loaded()
    await blocks.close()
    await items.close()


async def test_items_and_blocks_do_not_end_each_others_copies(database: Database) -> None:
    await _write(database, "The kayak is in the garage.")
    await _put_items(database, "Bea's grey kayak")
    blocks, items = await _loaded(database), await _loaded_items(database)
    await _put_items(database, *(f"boat {number} on the river" for number in range(400)))
    await top(new_recall(database, blocks), QUERIES[0])
    await _write(database, *(f"Bea sold boat {number}." for number in range(400)))
    await top(new_recall(database, items), QUERIES[0], items=ItemSelection())
    assert (blocks.counts.used, blocks.counts.loaded) == (1, 1)
    # More changed items than one response holds.
    assert (items.counts.used, items.counts.loaded) == (0, 1)
    await items.loaded()
    await _write(database, *(f"Bea saw boat {number}." for number in range(400)))
    await top(new_recall(database, items), QUERIES[0], items=ItemSelection())
    assert (items.counts.used, items.counts.loaded) == (1, 2)
    await blocks.close()
    await items.close()


async def test_the_view_of_a_namespace_is_kept_until_the_scope_changes(
    database: Database,
) -> None:
    await _put_items(database, *(f"Bea's grey kayak {number}" for number in range(12)))
    snapshots = await _loaded_items(database)
    selection = Selection(items=ItemSelection(prefix=("n1",)))

    async def view() -> View:
        current = await snapshots.current(ADA, MODELS[0], (), selection)
        assert current is not None
        return current.view

    first = await view()
    assert len(first.arrangement.passages) == 4
    assert await view() is first
    await _put_items(database, "one", "kayak")  # the second one in n1
    second = await view()
    assert len(second.arrangement.passages) == 5
    await snapshots.close()
