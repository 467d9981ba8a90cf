"""A database with users that is split into partitions and united again, user by user."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import asyncpg
import pytest
from tests.support.rows import MORE_ROWS
from tests.support.running import ingest, working

from luma_memory.bootstrap.partitions import Partitions
from luma_memory.bootstrap.placement import Placement, open_placement
from luma_memory.domain.errors import Conflict, PartitionMismatch
from luma_memory.domain.partition import HOME, layout_of, partition_number
from luma_memory.domain.scope import Scope
from luma_memory.partitions import adopting
from luma_memory.partitions.adopting import Adoption, AdoptionStep
from luma_memory.partitions.scope_fence import NOT_OF_USERS, scope_tables
from luma_memory.partitions.scope_moves import ScopeMover
from luma_memory.postgres.database import Database
from luma_memory.postgres.table_copies import digest, enter, tables
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.partitions import PartitionDirectory
from luma_memory.store.users import PostgresUserStore
from luma_memory.telemetry.events import JobCompleted
from luma_memory.testing.sample_blocks import ingest_item, new_block

COUNT = 3
SCHEMAS = ["public", "luma_p1", "luma_p2"]
USERS = [f"user-{n}" for n in range(9)]
AWAY = [user for user in USERS if partition_number(Scope("default", user), COUNT) != HOME]
STEPS = ["listed", "begun", "locked", "written", "moved", "emptied"]


class InterruptedAdoptionError(Exception):
    """What a test interrupts with."""


@dataclass
class Scene:
    """A database with users, and partitions that are prepared."""

    home: Database
    dsn: str
    connection: asyncpg.Connection

    def adoption(
        self, stop_at: str | None = None, call: Callable[[str], None] = lambda _: None
    ) -> Adoption:
        def step(done: AdoptionStep) -> None:
            call(done.name)
            if done.name == stop_at:
                raise InterruptedAdoptionError

        return Adoption(self.home, on_step=step)

    async def layout(self) -> str | None:
        return layout_of(await PartitionDirectory(self.home).partitions())

    async def ledger(self) -> dict[str, tuple[int, int]]:
        """Count and sum of hashes of the users' rows, over all partitions."""
        found = {}
        for table in await scope_tables(self.connection, "public"):
            sums = [await digest(self.connection, schema, table) for schema in SCHEMAS]
            found[table.name] = (sum(one for one, _ in sums), sum(other for _, other in sums))
        return found

    async def users_in(self, schema: str) -> set[str]:
        found: set[str] = set()
        for table in await scope_tables(self.connection, schema):
            rows = await self.connection.fetch(f"SELECT user_id FROM {table.in_schema(schema)}")
            found |= {row["user_id"] for row in rows}
        return found

    async def check_spread(self) -> None:
        for number, schema in enumerate(SCHEMAS):
            expected = {
                user for user in USERS if partition_number(Scope("default", user), COUNT) == number
            }
            assert await self.users_in(schema) - {""} == expected

    async def leftovers(self) -> list[str]:
        rows = await self.connection.fetch(
            "SELECT relname AS name FROM pg_class WHERE relname LIKE 'moving%'"
            " UNION ALL SELECT tgname FROM pg_trigger WHERE tgname LIKE 'moving%'"
            " UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE 'moving%'"
        )
        return [row["name"] for row in rows]


def _block_store(partition: Database) -> PostgresBlockStore:
    return PostgresBlockStore(partition, attempts_max=3)


@pytest.fixture
async def scene(
    database: Database, dsn: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> Scene:
    monkeypatch.setattr(adopting, "MOVING_SECONDS", 0)  # no process has to learn of anything
    for user in USERS:
        await ingest(database, new_block(f"A car of {user}.", user_id=user))
    async with working(database) as worker:
        await worker.events.wait_for(JobCompleted, count=len(USERS))
    await database.execute(MORE_ROWS)
    await database.execute("DELETE FROM memory_partitions")
    await database.execute("DELETE FROM memory_partition_moves")
    await ingest(database, new_block("Waits for a worker.", user_id=AWAY[0]))
    await Partitions(database).create(COUNT, "luma_p")
    await enter(connection, "public")
    return Scene(database, dsn, connection)


@pytest.fixture
async def placement(scene: Scene) -> AsyncIterator[Placement]:
    """What a process of the service uses."""
    server = Database(scene.dsn, pool_size=4)
    await server.open()
    placement = await open_placement(server)
    assert placement.places is not None
    yield placement
    await placement.places.close()
    await server.close()


async def test_every_table_is_moved_or_is_left_out_for_a_reason(
    connection: asyncpg.Connection,
) -> None:
    named = [t.name for t in await tables(connection, "public") if "user_id" in t.columns]
    moved = [table.name for table in await scope_tables(connection, "public")]
    assert sorted([*moved, *NOT_OF_USERS]) == sorted(named)


async def test_all_rows_of_all_users_are_moved_and_return(scene: Scene) -> None:
    before = await scene.ledger()
    empty = {name for name, (rows, _) in before.items() if rows == 0}
    assert empty == set()
    report = await scene.adoption().adopt()
    assert (report.users, report.partitions) == (len(AWAY), COUNT)
    assert report.rows > 10 * len(AWAY)
    assert await scene.layout() == "spread"
    await scene.check_spread()
    assert await scene.ledger() == before
    assert await scene.leftovers() == []
    assert (await scene.adoption().adopt()).users == 0
    again = await scene.adoption().return_users()
    assert (again.users, again.rows) == (report.users, report.rows)
    assert await scene.layout() == "home"
    assert [await scene.users_in(schema) for schema in SCHEMAS[1:]] == [set(), set()]
    assert await scene.ledger() == before
    assert await scene.leftovers() == []
    # And once more, with ids that were given in the partitions.
    assert (await scene.adoption().adopt()).users == len(AWAY)
    assert await scene.ledger() == before


@pytest.mark.parametrize("stop_at", STEPS)
async def test_an_interrupted_adoption_continues_or_is_undone(
    scene: Scene, placement: Placement, stop_at: str
) -> None:
    before = await scene.ledger()
    with pytest.raises(InterruptedAdoptionError):
        await scene.adoption(stop_at).adopt()
    assert await scene.ledger() == before
    await scene.adoption().return_users()
    assert await scene.layout() == "home"
    assert await scene.users_in("public") >= set(USERS)
    assert await scene.ledger() == before
    assert await scene.leftovers() == []
    with pytest.raises(InterruptedAdoptionError):
        await scene.adoption(stop_at).adopt()
    # Old and new users are found and created where they belong meanwhile.
    assert placement.places is not None
    await placement.places.refresh()
    blocks = placement.store(_block_store)
    items = [ingest_item(new_block("Meanwhile.", user_id=user)) for user in [*USERS, "new-1"]]
    outcomes = await blocks.ingest(items, lease=None)
    assert [type(one).__name__ for one in outcomes] == ["Accepted"] * len(items)
    users = placement.store(PostgresUserStore)
    assert all([await users.read(Scope("default", user)) for user in USERS])
    await scene.adoption().adopt()
    assert await scene.layout() == "spread"
    count = (await scene.ledger())["memory_blocks"][0]
    assert count == before["memory_blocks"][0] + len(items)
    assert await scene.leftovers() == []


async def test_a_return_is_interrupted_and_continued(scene: Scene, placement: Placement) -> None:
    before = await scene.ledger()
    await scene.adoption().adopt()
    for stop_at in STEPS:
        with pytest.raises(InterruptedAdoptionError):
            await scene.adoption(stop_at).return_users()
        assert await scene.ledger() == before
    assert placement.places is not None
    await placement.places.refresh()
    users = placement.store(PostgresUserStore)
    assert all([await users.read(Scope("default", user)) for user in USERS])
    await scene.adoption().return_users()
    assert await scene.layout() == "home"
    assert await scene.ledger() == before
    assert await scene.leftovers() == []


async def test_late_writers_are_refused_where_the_user_was(scene: Scene) -> None:
    with pytest.raises(InterruptedAdoptionError):
        await scene.adoption("emptied").adopt()
    await scene.connection.execute(
        "UPDATE memory_partitions SET state = 'adopting' WHERE number > 0"
    )
    await scene.connection.execute(
        "ALTER TABLE memory_users DROP CONSTRAINT memory_users_partition"
    )
    for user in (AWAY[0], "user-19"):  # both belong to other partitions; the second one is new
        assert partition_number(Scope("default", user), COUNT) != HOME
        with pytest.raises(PartitionMismatch):
            await ingest(scene.home, new_block(user_id=user))
        for table in ("memory_usage", "memory_rate_limits", "memory_idempotency"):
            with pytest.raises(PartitionMismatch):
                await scene.home.execute(
                    f"INSERT INTO {table} SELECT (p).* FROM (SELECT jsonb_populate_record(t,"
                    f" jsonb_build_object('user_id', '{user}')) AS p"
                    f" FROM {table} AS t LIMIT 1) AS r"
                )
    stays = next(user for user in USERS if user not in AWAY)
    await ingest(scene.home, new_block(user_id=stays))


async def test_writers_wait_for_the_end_of_a_pause_without_keeping_it_from_ending(
    scene: Scene, placement: Placement
) -> None:
    """Each of them holds rows or waits for them when the user is moved."""
    assert placement.places is not None
    blocks = placement.store(_block_store)
    writing: list[asyncio.Task[object]] = []
    before = await scene.ledger()

    def call(step: str) -> None:
        if step in {"locked", "written"}:
            items = [ingest_item(new_block("Late.", user_id=user)) for user in USERS]
            writing.append(asyncio.create_task(blocks.ingest(items, lease=None)))

    async def learn() -> None:
        while True:
            await placement.places.refresh()  # type: ignore[union-attr]
            await asyncio.sleep(0.01)

    learning = asyncio.create_task(learn())
    await scene.adoption(call=call).adopt()
    outcomes = [one for found in await asyncio.gather(*writing) for one in found]  # type: ignore[attr-defined]
    learning.cancel()
    assert {type(one).__name__ for one in outcomes} == {"Accepted"}
    await scene.check_spread()
    after = (await scene.ledger())["memory_blocks"][0]
    assert after == before["memory_blocks"][0] + len(outcomes)


async def test_a_user_with_many_rows_is_copied_before_the_pause(
    scene: Scene, placement: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = AWAY[1]
    await scene.connection.execute(
        "INSERT INTO memory_summaries (id, project_id, user_id, week_start, text, model)"
        " SELECT gen_random_uuid(), 'default', $1, date '1950-01-01' + n, 'text', 'm'"
        " FROM generate_series(1, 3000) AS n",
        large,
    )
    before = await scene.ledger()
    steps: list[str] = []
    blocks = placement.store(_block_store)
    follow = ScopeMover._follow

    async def write(mover: ScopeMover, scope: Scope, target: str) -> None:
        await scene.connection.execute(
            "DELETE FROM memory_summaries WHERE user_id = $1 AND week_start < '1950-02-01'", large
        )
        await scene.connection.execute(
            "UPDATE memory_summaries SET text = 'changed' WHERE user_id = $1"
            " AND week_start < '1950-03-01'",
            large,
        )
        assert placement.places is not None
        await placement.places.refresh()
        items = [ingest_item(new_block("While it is copied.", user_id=large))]
        await blocks.ingest(items, lease=None)
        await follow(mover, scope, target)

    monkeypatch.setattr(ScopeMover, "_follow", write)
    report = await scene.adoption(call=steps.append).adopt()
    assert steps.count("copied") == 1
    await scene.check_spread()
    assert report.rows > 3000
    after = await scene.ledger()
    assert after["memory_summaries"][0] == before["memory_summaries"][0] - 30
    assert after["memory_blocks"][0] == before["memory_blocks"][0] + 1
    text = "SELECT count(*) FROM {}.memory_summaries WHERE text = 'changed'"
    changed = [await scene.connection.fetchval(text.format(schema)) for schema in SCHEMAS]
    assert sum(changed) == 28


async def test_processes_that_do_not_know_of_partitions_are_named(scene: Scene) -> None:
    old = Database(scene.dsn, pool_size=1, application_name="luma-memory api")
    await old.fetch("SELECT")
    with pytest.raises(Conflict, match=r"restart all API and worker processes") as raised:
        await scene.adoption().adopt()
    assert raised.value.code == "processes_not_ready"
    assert await scene.layout() == "home"
    assert await scene.leftovers() == []
    await open_placement(old)  # as after its restart
    assert (await scene.adoption().adopt()).users == len(AWAY)
    await old.close()


async def test_a_user_who_cannot_be_moved_keeps_no_other_one_from_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await scene.ledger()
    key = f"hashtextextended('default' || chr(1) || '{AWAY[0]}', 31)"
    await scene.connection.execute(f"SELECT pg_advisory_lock_shared({key})")  # as a long writer
    monkeypatch.setattr(adopting, "_BUSY_MAX", 1)
    with pytest.raises(Conflict, match="1 users change faster") as raised:
        await scene.adoption().adopt()
    assert raised.value.code == "user_busy"
    assert await scene.users_in("public") & set(AWAY) == {AWAY[0]}
    await scene.connection.execute(f"SELECT pg_advisory_unlock_shared({key})")
    assert (await scene.adoption().adopt()).users == 1
    assert await scene.ledger() == before
