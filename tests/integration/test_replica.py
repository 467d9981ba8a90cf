"""Reads from a streaming replica: never stale, whatever happens to it, and never in the way."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from tests.support.pgbouncer import needs_pgbouncer, running_pooler
from tests.support.postgres_majors import NEWEST, OLDEST
from tests.support.replicas import Reader, reader_of
from tests.support.stacks import kept_open

from luma_memory.bootstrap.partitions import Partitions
from luma_memory.domain.block_selection import BlockSelection
from luma_memory.domain.ids import IdMaker
from luma_memory.domain.item import (
    ItemName,
    ListNamespaces,
    PreparedWrite,
    PreparedWrites,
    PutItem,
    SearchItems,
)
from luma_memory.domain.known_marks import marks_known
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import ItemSelection
from luma_memory.pipeline.ingest.indexing import index_passages
from luma_memory.ports.block_lists import BlockChoice
from luma_memory.postgres.database import Database
from luma_memory.postgres.migrator import migrate
from luma_memory.postgres.replica import NotAReplicaError
from luma_memory.store.block_lists import PostgresBlockLists
from luma_memory.store.block_selections import PostgresBlockSelections
from luma_memory.store.erasures import PostgresEraserStore
from luma_memory.store.items import PostgresItemStore
from luma_memory.store.relations import PostgresRelationStore
from luma_memory.store.user_lists import PostgresUserLists
from luma_memory.telemetry.events import ReplicaChanged
from luma_memory.testing.sample_blocks import OCCURRED_AT
from luma_memory.testing.standby import Streaming, streaming


@pytest.fixture(
    scope="module", params=[NEWEST, pytest.param(OLDEST, marks=pytest.mark.oldest_postgres)]
)
def pair(request: pytest.FixtureRequest) -> Iterator[Streaming]:
    """Tests use users of their own, and leave the standby streaming."""
    with kept_open(lambda: streaming(request.param)) as pair:
        asyncio.run(_migrated(pair, "luma_memory"))
        yield pair


async def _migrated(pair: Streaming, database: str) -> None:
    home = Database(pair.primary.dsn(database), pool_size=2)
    await migrate(home)
    await home.close()
    await pair.caught_up()


@pytest.fixture
async def reader(pair: Streaming) -> AsyncIterator[Reader]:
    async with reader_of(pair) as reader:
        yield reader


@pytest.fixture
def user() -> Scope:
    return Scope("default", secrets.token_hex(6))


@pytest.fixture(params=[False, True], ids=["scan", "snapshot"])
async def searching(reader: Reader, request: pytest.FixtureRequest) -> AsyncIterator[Reader]:
    """Without snapshots, and with them."""
    if request.param:
        reader.snapshots = reader.new_snapshots()
    yield reader
    if reader.snapshots is not None:
        await reader.snapshots.close()


async def test_a_search_reads_the_replica_only_while_it_shows_the_scope_as_it_is(
    pair: Streaming, searching: Reader, user: Scope
) -> None:
    await searching.write(user, "The grey kayak is in the garage.")
    await searching.until_used(user)
    await pair.pause_replay()
    try:
        for number in range(5):
            text = f"The grey kayak was lent to neighbor {number}."
            await searching.write(user, text)
            assert text in await searching.texts(user)
            assert set(searching.outcomes()) == {"behind"}
    finally:
        await pair.resume_replay()
    await searching.until_used(user)
    assert len(await searching.texts(user)) == 6


async def test_other_scopes_are_read_there_while_one_is_behind(
    pair: Streaming, reader: Reader, user: Scope
) -> None:
    other = replace(user, user_id=f"{user.user_id}-other")
    await reader.write(user, "The grey kayak is in the garage.")
    await reader.write(other, "The grey kayak is at the lake.")
    await reader.until_used(user)
    await pair.pause_replay()
    try:
        await reader.write(user, "The grey kayak was sold.")
        await reader.search(user)
        assert set(reader.outcomes()) == {"behind"}
        await reader.search(other)
        assert set(reader.outcomes()) == {"used"}
    finally:
        await pair.resume_replay()


async def test_every_search_sees_what_was_written_before_it_in_any_order_of_events(
    pair: Streaming, searching: Reader
) -> None:
    """Writers and readers of a few users, while replay is paused and resumed at random."""
    users = [Scope("default", secrets.token_hex(6)) for _ in range(4)]
    ledger: dict[Scope, set[str]] = {user: set() for user in users}
    ends = time.monotonic() + 6
    searches = 0

    async def write(user: Scope) -> None:
        number = 0
        while time.monotonic() < ends:
            text = f"The grey kayak, note {number} of {user.user_id}."
            await searching.write(user, text)
            ledger[user].add(text)
            number += 1
            await asyncio.sleep(random.random() * 0.4)

    async def read(user: Scope) -> None:
        nonlocal searches
        while time.monotonic() < ends:
            expected = set(list(ledger[user])[-40:])
            found = await searching.texts(user)
            if len(ledger[user]) <= 40:
                assert expected <= found
            searches += 1

    async def disturb() -> None:
        while time.monotonic() < ends:
            await pair.pause_replay()
            await asyncio.sleep(random.random() * 0.5)
            await pair.resume_replay()
            await asyncio.sleep(random.random() * 0.5)

    await asyncio.gather(*map(write, users), *map(read, users), *map(read, users), disturb())
    outcomes = searching.outcomes()
    assert outcomes["used"] > 0
    assert outcomes["behind"] > 0
    assert searches > 20


async def test_an_erased_user_is_not_shown_by_a_replica_that_still_has_them(
    pair: Streaming, searching: Reader, user: Scope
) -> None:
    await searching.write(user, "The grey kayak is in the garage.")
    await searching.until_used(user)
    await pair.pause_replay()
    try:
        await PostgresEraserStore(searching.primary).erase(
            user,
            erasure_id=uuid4(),
            key_digest=None,
            started_at=datetime.now(UTC),
            last_job=0,
            swept=0,
            cached=0,
        )
        searching.outcomes()
        assert await searching.texts(user) == set()
        assert searching.outcomes()["used"] == 0
        await searching.write(user, "The user is back, with a red kayak.")
        assert await searching.texts(user) == {"The user is back, with a red kayak."}
        assert searching.outcomes()["used"] == 0
    finally:
        await pair.resume_replay()
    await searching.until_used(user)
    assert await searching.texts(user) == {"The user is back, with a red kayak."}


async def test_a_user_without_anything_costs_the_look_up_only(reader: Reader, user: Scope) -> None:
    assert await reader.texts(user) == set()
    assert set(reader.outcomes()) == {"absent"}


LISTS: dict[str, Callable[[Reader, Scope], Awaitable[Any]]] = {
    "blocks": lambda reader, user: reader.placement.read_store(PostgresBlockSelections).page(
        BlockSelection(project_id=user.project_id, user_id=user.user_id), before=None, limit=20
    ),
    "blocks of mem0": lambda reader, user: reader.placement.read_store(PostgresBlockLists).page(
        BlockChoice({user: None}), offset=0, limit=20
    ),
    "groups": lambda reader, user: reader.placement.read_store(PostgresBlockLists).groups(
        user.project_id, user_id=user.user_id, offset=0, limit=20
    ),
    "sessions": lambda reader, user: reader.placement.read_store(PostgresUserLists).sessions(
        user, after=None, limit=20
    ),
    "terms": lambda reader, user: reader.placement.read_store(PostgresUserLists).terms(
        user, limit=9
    ),
    "relations": lambda reader, user: reader.placement.read_store(PostgresRelationStore).page(
        user, limit=10, before=None, block_id=None, relation_type=None, status=None
    ),
    "items": lambda reader, user: _items(reader).page(user, SearchItems()),
    "namespaces": lambda reader, user: _items(reader).namespaces(user, ListNamespaces()),
}


def _items(reader: Reader) -> PostgresItemStore:
    return reader.placement.read_store(lambda one: PostgresItemStore(one, attempts_max=3))


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_is_read_there_if_it_is_up_to_date(
    pair: Streaming, reader: Reader, user: Scope, name: str
) -> None:
    await reader.write(user, "The grey kayak is in the garage.")
    await _put(reader, user, "kayak", ttl_seconds=None)
    await pair.caught_up()
    there = await LISTS[name](reader, user)
    assert reader.outcomes() == {"used": 1}
    await reader.primary.execute(
        "SELECT raise_memory_version($1, $2, NULL, now())", user.project_id, user.user_id
    )
    await pair.caught_up()
    reader.replica.reason = "left alone by the test"
    here = await LISTS[name](reader, user)
    reader.replica.reason = None
    assert reader.outcomes() == {"unavailable": 1}
    assert here == there
    await pair.pause_replay()
    try:
        await reader.write(user, "The grey kayak was sold.")
        await LISTS[name](reader, user)
        assert reader.outcomes() == {"behind": 1}
    finally:
        await pair.resume_replay()


async def test_lists_over_all_users_have_no_version_and_are_read_on_the_primary(
    reader: Reader, user: Scope
) -> None:
    await reader.write(user, "The grey kayak is in the garage.")
    selections = reader.placement.read_store(PostgresBlockSelections)
    await selections.page(BlockSelection(project_id=user.project_id), before=None, limit=20)
    users = reader.placement.read_store(PostgresUserLists)
    for user_id in (None, user.user_id):
        page = await users.page(
            user.project_id, user_id=user_id, prefix=None, sort="user_id", after=None, limit=20
        )
        assert page.users
    assert not reader.outcomes()


async def _put(reader: Reader, user: Scope, key: str, *, ttl_seconds: float | None) -> None:
    write = PreparedWrite(
        write=PutItem(
            name=ItemName(("n",), key),
            value={"text": key},
            ttl_seconds=ttl_seconds,
            refresh_on_read=True,
        ),
        changed_by="user",
        id=IdMaker().make(),
        content=key,
        passages=index_passages(key, speaker=None, occurred_at=OCCURRED_AT),
    )
    store = PostgresItemStore(reader.primary, attempts_max=3)
    await store.write([PreparedWrites(user, [write])])


async def test_items_whose_time_to_live_can_begin_anew_are_read_on_the_primary(
    pair: Streaming, reader: Reader, user: Scope
) -> None:
    """A read that extends an item's time raises no version."""
    await _put(reader, user, "a grey kayak", ttl_seconds=None)
    await pair.caught_up()
    assert len((await _items(reader).page(user, SearchItems())).items) == 1
    assert reader.outcomes() == {"used": 1}
    await _put(reader, user, "a red kayak", ttl_seconds=3600.0)
    await pair.caught_up()
    for _ in range(2):
        assert len((await _items(reader).page(user, SearchItems())).items) == 2
    assert set(reader.outcomes()) == {"renewed"}
    assert len((await reader.search(user, items=ItemSelection())).hits) == 2
    outcomes = reader.outcomes()  # relations are not about items
    assert (outcomes["renewed"], outcomes["used"]) == (2, 1)


async def test_a_killed_replica_is_left_alone_and_used_again(
    pair: Streaming, searching: Reader, user: Scope
) -> None:
    await searching.write(user, "The grey kayak is in the garage.")
    await searching.until_used(user)
    await asyncio.to_thread(pair.standby.kill)
    try:
        await searching.until_left_alone(user)
        searching.outcomes()
        for _ in range(5):
            assert len(await searching.texts(user)) == 1
        assert set(searching.outcomes()) == {"unavailable"}
    finally:
        await asyncio.to_thread(pair.standby.start)
    await searching.until_used(user)
    (first, *_rest) = [one.reason for one in searching.events.of(ReplicaChanged)]
    assert first is None


async def test_a_hanging_replica_delays_searches_by_less_than_two_seconds(
    pair: Streaming, searching: Reader, user: Scope
) -> None:
    await searching.write(user, "The grey kayak is in the garage.")
    await searching.until_used(user)
    with pair.standby.frozen():
        longest = await searching.until_left_alone(user)
        searching.outcomes()
        began = time.monotonic()
        for _ in range(10):
            assert len(await searching.texts(user)) == 1
        later = time.monotonic() - began
        assert set(searching.outcomes()) == {"unavailable"}
    print(f"the longest search took {longest:.2f} s, ten later ones {later:.2f} s")
    assert longest < 5  # 0.25 s, and this machine's own delays
    await searching.until_used(user)


async def test_a_busy_process_does_not_take_its_replica_for_away(
    pair: Streaming, reader: Reader, user: Scope
) -> None:
    await reader.write(user, "The grey kayak is in the garage.")
    await reader.until_used(user)
    loop = asyncio.get_running_loop()
    pending = asyncio.create_task(reader.search(user))
    for _ in range(20):
        await asyncio.sleep(0)
        # Longer than a read waits for the replica's version.
        loop.call_soon(time.sleep, 0.6)
        if pending.done():
            break
    assert len((await pending).hits) == 1
    assert set(reader.outcomes()) == {"used"}


async def test_a_read_that_conflicts_with_replay_is_repeated_on_the_primary(
    pair: Streaming, reader: Reader, user: Scope
) -> None:
    await reader.write(user, "The grey kayak is in the garage.")
    await reader.until_used(user)
    lists = reader.placement.read_store(PostgresUserLists)
    waiting = asyncio.Event()
    there: Any = lists._there  # type: ignore[attr-defined]
    sessions = there.sessions

    async def slow_sessions(*values: Any, **options: Any) -> Any:
        found = await sessions(*values, **options)
        waiting.set()
        # Still in the transaction when what it reads is removed by a vacuum on the primary.
        await reader.replica.database.fetch("SELECT pg_sleep(60)")
        return found

    there.sessions = slow_sessions
    pending = asyncio.create_task(lists.sessions(user, after=None, limit=5))
    await waiting.wait()
    reader.outcomes()
    await reader.primary.execute("CREATE TABLE IF NOT EXISTS vacuumed (n int)")
    await reader.primary.execute("INSERT INTO vacuumed SELECT generate_series(1, 1000)")
    await reader.primary.execute("DELETE FROM vacuumed")
    await reader.primary.execute("VACUUM vacuumed")
    async with asyncio.timeout(50):
        assert await pending is not None
    assert reader.outcomes() == {"conflict": 1}
    assert reader.replica.is_used


async def test_a_clock_that_deviates_shows_in_no_result(reader: Reader, user: Scope) -> None:
    """What has expired is decided by a server's clock."""
    await reader.write(user, "The grey kayak is in the garage.")
    await reader.until_used(user)
    store: Any = reader.placement.read_store(PostgresUserLists)
    look_up = store.look_up_mark
    for seconds, outcome in ((-3600, "clock"), (3600, "clock"), (0, "used")):

        async def by_another_clock(scope: Scope, seconds: int = seconds) -> Any:
            known = await look_up(scope)
            return replace(known, read_at=known.read_at + seconds * 1_000_000)

        store.look_up_mark = by_another_clock
        reader.outcomes()
        await store.sessions(user, after=None, limit=5)
        assert reader.outcomes() == {outcome: 1}


async def test_a_promoted_replica_is_left_alone(user: Scope) -> None:
    async with streaming(NEWEST) as pair:
        await _migrated(pair, "luma_memory")
        async with reader_of(pair) as reader:
            await reader.write(user, "The grey kayak is in the garage.")
            await reader.until_used(user)
            await asyncio.to_thread(pair.standby.promote)
            await reader.until_left_alone(user)
            assert len(await reader.texts(user)) == 1
            assert "not to a standby" in (reader.replica.reason or "")
        # So a failover keeps no process from starting.
        async with reader_of(pair) as reader:
            assert not reader.replica.is_used
            assert len(await reader.texts(user)) == 1


async def test_the_primary_as_its_own_replica_is_not_read_twice(
    pair: Streaming, user: Scope
) -> None:
    async with reader_of(pair, at=pair.primary.dsn()) as reader:
        await reader.write(user, "The grey kayak is in the garage.")
        assert len(await reader.texts(user)) == 1
        assert set(reader.outcomes()) == {"unavailable"}
        assert "leads to a primary" in (reader.replica.reason or "")


async def test_a_replica_of_another_server_is_refused(pair: Streaming, dsn: str) -> None:
    with pytest.raises(NotAReplicaError, match="system identifier"):
        async with reader_of(pair, at=dsn):
            pass


async def test_another_database_of_the_replica_is_refused(pair: Streaming) -> None:
    with pytest.raises(NotAReplicaError, match="name is postgres, not luma_memory"):
        async with reader_of(pair, at=pair.standby.dsn("postgres")):
            pass


async def test_a_replica_that_is_away_at_the_start_is_used_once_it_is_there(
    pair: Streaming, user: Scope
) -> None:
    await asyncio.to_thread(pair.standby.kill)
    try:
        async with reader_of(pair) as reader:
            await reader.write(user, "The grey kayak is in the garage.")
            assert len(await reader.texts(user)) == 1
            await asyncio.to_thread(pair.standby.start)
            await reader.until_used(user)
    finally:
        if not pair.standby.is_running:
            await asyncio.to_thread(pair.standby.start)


@pytest.mark.parametrize(
    ("grants", "reason"),
    [
        ("", "may not read all of"),
        ("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}", "Row-level security hides rows"),
        (
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}; ALTER ROLE {role} BYPASSRLS",
            None,
        ),
    ],
    ids=["may not read", "sees no rows", "may read"],
)
async def test_the_role_of_the_replica_must_read_all_rows(
    pair: Streaming, user: Scope, grants: str, reason: str | None
) -> None:
    role = f"reader_{user.user_id}"
    connection = await asyncpg.connect(pair.primary.dsn())
    await connection.execute(f"CREATE ROLE {role} LOGIN; {grants.format(role=role)}")
    await pair.caught_up()
    try:
        address = pair.standby.dsn().replace("postgres@", f"{role}@")
        async with reader_of(pair, at=address) as reader:
            await reader.write(user, "The grey kayak is in the garage.")
            if reason is None:
                await reader.until_used(user)
            else:
                assert reason in (reader.replica.reason or "")
            assert len(await reader.texts(user)) == 1
    finally:
        await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await connection.close()


async def test_reasons_name_the_setting_and_no_password(pair: Streaming) -> None:
    address = pair.standby.dsn().replace("postgres@", "nobody:s3cret-word@")
    async with reader_of(pair, at=address) as reader:
        reason = reader.replica.reason or ""
        assert "MEMORY_DATABASE_READ_URL" in reason
        assert "s3cret-word" not in reason
        assert " DATABASE_URL" not in reason


@needs_pgbouncer
async def test_a_transaction_pooler_in_front_of_the_replica(pair: Streaming, user: Scope) -> None:
    async with (
        running_pooler(pair.standby.dsn()) as pooler,
        reader_of(pair, at=pooler.address(pair.standby.dsn()), pooler="auto") as reader,
    ):
        assert await reader.replica.database.shares_sessions()
        await reader.write(user, "The grey kayak is in the garage.")
        await reader.until_used(user)
        await pair.pause_replay()
        try:
            await reader.write(user, "The grey kayak was sold.")
            assert len(await reader.texts(user)) == 2
        finally:
            await pair.resume_replay()
        await reader.until_used(user)


async def test_partitions_in_schemas_of_the_database_are_read_on_its_replica(
    pair: Streaming,
) -> None:
    connection = await asyncpg.connect(pair.primary.dsn())
    await connection.execute("CREATE DATABASE spread")
    await connection.close()
    await _migrated(pair, "spread")
    home = Database(pair.primary.dsn("spread"), pool_size=2)
    await Partitions(home).create(3, "luma_p")
    await home.close()
    await pair.caught_up()
    users = [Scope("default", f"user-{n}") for n in range(8)]
    async with reader_of(pair, database="spread") as reader:
        places = reader.placement.places
        assert places is not None
        assert len({places.number_of(user) for user in users}) == 3
        for user in users:
            await reader.write(user, f"The grey kayak of {user.user_id}.")
        for user in users:
            await reader.until_used(user)
            assert await reader.texts(user) == {f"The grey kayak of {user.user_id}."}
        # One at another address has no replica.
        elsewhere = places.all[1]
        await elsewhere.database.close()
        elsewhere.database.move(Database(pair.primary.dsn("spread")), elsewhere.database.schema)
        user = next(user for user in users if places.number_of(user) == 1)
        reader.outcomes()
        assert await reader.texts(user) == {f"The grey kayak of {user.user_id}."}
        assert set(reader.outcomes()) == {"elsewhere"}
        await elsewhere.database.server.close()


async def test_a_replica_that_fails_raises_no_error_of_its_own(reader: Reader, user: Scope) -> None:
    """As with a schema that has not been replayed yet."""
    await reader.write(user, "The grey kayak is in the garage.")
    await reader.until_used(user)
    lists: Any = reader.placement.read_store(PostgresUserLists)

    async def fails(*_values: Any, **_options: Any) -> None:
        await reader.replica.database.fetch("SELECT missing_column FROM memory_users")

    lists._there.sessions = fails
    reader.outcomes()
    assert (await lists.sessions(user, after=None, limit=5)).sessions == []
    assert reader.outcomes() == {"failed": 1}


async def test_a_scope_that_changed_since_the_look_up_is_read_if_the_primary_knows_the_version(
    pair: Streaming, reader: Reader, user: Scope
) -> None:
    """And not otherwise: a replica that has diverged shows versions that the primary never had."""
    await reader.write(user, "The grey kayak is in the garage.")
    lists: Any = reader.placement.read_store(PostgresUserLists)
    with marks_known():
        assert (await lists.terms(user, limit=5)).block_count == 1
        await reader.write(user, "The grey kayak was sold.")
        await pair.caught_up()
        reader.outcomes()
        assert (await lists.terms(user, limit=5)).block_count == 2
        assert reader.outcomes() == {"used": 1}
        await reader.write(user, "The grey kayak came back.")
        await reader.primary.execute("DELETE FROM memory_changes")
        await pair.caught_up()
        assert (await lists.terms(user, limit=5)).block_count == 3
        assert reader.outcomes() == {"ahead": 1}
