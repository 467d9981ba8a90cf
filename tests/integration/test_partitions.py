"""Partitions in schemas of one database: created, migrated, examined, and separate."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest
from tests.support.locks import until_a_session_waits
from tests.support.pgbouncer import needs_pgbouncer, running_pooler
from tests.support.running import ingest, working

from luma_memory.bootstrap.partitions import Partitions
from luma_memory.cli.checks import partition_findings
from luma_memory.domain.clock import SystemClock
from luma_memory.domain.errors import Conflict, Invalid, PartitionMismatch, SetupError
from luma_memory.domain.partition import partition_number
from luma_memory.domain.scope import Scope
from luma_memory.partitions.schema_moves import SchemaMove
from luma_memory.pipeline.ingest.erasing import Erasing
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.postgres.database import Database
from luma_memory.postgres.dumps import dump, load
from luma_memory.postgres.migrator import migrate, schema_is_current
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.erasures import PostgresEraserStore
from luma_memory.store.search import PostgresSearchStore
from luma_memory.telemetry.events import JobCompleted
from luma_memory.testing.event_log import EventLog
from luma_memory.testing.models import WordEmbedder
from luma_memory.testing.sample_blocks import new_block

# Of two partitions, the home partition has Melanie and the other one Caroline.
CAROLINE, MELANIE = Scope("default", "caroline"), Scope("default", "melanie")
NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
OBJECTS = """
SELECT c.oid, c.relname AS name FROM pg_class AS c WHERE c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT p.oid, p.oid::regprocedure::text FROM pg_proc AS p
WHERE p.pronamespace = 'public'::regnamespace
"""
# Of a schema, without its name.
CATALOG = """
SELECT format('%s.%s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod)) AS line
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = $1::text::regnamespace AND c.relname LIKE 'memory\\_%'
  AND c.relkind IN ('r', 'i')
UNION ALL
SELECT format('%s(%s)', p.proname, pg_get_function_identity_arguments(p.oid))
FROM pg_proc AS p WHERE p.pronamespace = $1::text::regnamespace AND p.prosrc ~ 'memory_'
UNION ALL
SELECT format('%s %s', tablename, replace(qual, quote_ident(schemaname) || '.', ''))
FROM pg_policies WHERE schemaname = $1::text
"""


@pytest.fixture
async def partition(database: Database, dsn: str) -> AsyncIterator[Database]:
    """The second of two partitions, beside the home partition `database`."""
    await Partitions(database).create(2, "luma_p")
    opened = Database(dsn, schema="luma_p1", pool_size=4, acquire_timeout_seconds=60.0)
    yield opened
    await opened.close()


async def _lines(connection: asyncpg.Connection, query: str, *values: str) -> set[tuple[str, ...]]:
    return {tuple(map(str, row)) for row in await connection.fetch(query, *values)}


async def test_a_partition_is_a_complete_installation_and_leaves_the_home_partition_alone(
    database: Database, connection: asyncpg.Connection
) -> None:
    before = await _lines(connection, OBJECTS)
    partitions = Partitions(database)
    done = await partitions.create(3, "luma_p")
    assert [(one.partition.number, one.error) for one in done] == [(1, None), (2, None)]
    assert await _lines(connection, OBJECTS) == before
    home = await _lines(connection, CATALOG, "public")
    for schema in ("luma_p1", "luma_p2"):
        assert await _lines(connection, CATALOG, schema) == home
    reports = await partitions.reports()
    assert [(one.partition.schema, one.partition.state) for one in reports] == [
        ("public", "serving"),
        ("luma_p1", "serving"),
        ("luma_p2", "serving"),
    ]
    assert all(one.facts is not None and one.facts.schema_current for one in reports)
    assert [finding.verdict for finding in partition_findings(reports)] == ["ok"]
    # Again: nothing is left to do. Another number: rows would be looked for elsewhere.
    assert all(
        one.report and not one.report.applied for one in await partitions.create(3, "luma_p")
    )
    for count, prefix in ((4, "luma_p"), (2, "luma_p"), (3, "other")):
        with pytest.raises(Conflict, match="cannot be changed"):
            await partitions.create(count, prefix)


async def test_without_citus_nothing_is_distributed(database: Database) -> None:
    partitions = Partitions(database)
    with pytest.raises(Conflict, match="no Citus cluster"):
        await partitions.create(2, "luma_p", distribute=True)
    assert await partitions.reports() == []
    await partitions.create(2, "luma_p")
    with pytest.raises(Invalid, match="no Citus cluster"):
        await SchemaMove(database, 1).run("node.internal:5432")


async def test_commands_at_once_do_the_work_once(
    database: Database, connect_database: Callable[[], Database]
) -> None:
    several = [Partitions(database), Partitions(connect_database())]
    results = await asyncio.gather(*(partitions.create(3, "luma_p") for partitions in several))
    assert [one.error for done in results for one in done] == [None] * 4
    assert len(await Partitions(database).reports()) == 3


async def test_a_schema_of_others_is_not_taken(
    database: Database, connection: asyncpg.Connection
) -> None:
    await connection.execute("CREATE SCHEMA luma_p2")
    with pytest.raises(Conflict, match="luma_p2 exists already"):
        await Partitions(database).create(3, "luma_p")
    assert await Partitions(database).reports() == []


async def test_two_partitions_share_no_row(
    database: Database, partition: Database, connection: asyncpg.Connection
) -> None:
    await ingest(database, new_block("Melanie adopted a grey cat.", user_id="melanie"))
    await ingest(partition, new_block("Caroline bought a red car.", user_id="caroline"))
    async with working(partition) as worker:
        await worker.events.wait_for(JobCompleted, count=1)
    assert (await PostgresJobQueue(partition).stats()).completed == 1
    assert (await PostgresJobQueue(database).stats()).pending == 1
    for place, scope, text in ((database, MELANIE, "grey cat"), (partition, CAROLINE, "red car")):
        recall = Recall(
            PostgresSearchStore(place),
            PostgresBlockStore(place, attempts_max=3),
            embedder=WordEmbedder(),
            emit=EventLog(),
        )
        found = await recall.search(SearchRequest(scope=scope, query=text, limit=5))
        assert [text in hit.block.content for hit in found.hits] == [True]

    erasing = Erasing(
        PostgresEraserStore(partition), secret=b"s" * 32, caches=(), clock=SystemClock()
    )
    receipt = await erasing.erase(CAROLINE, key=None)
    assert (receipt.erasure.counts["blocks"], receipt.erasure.counts["jobs"]) == (1, 1)
    assert await connection.fetchval("SELECT count(*) FROM public.memory_blocks") == 1
    assert await connection.fetchval("SELECT count(*) FROM luma_p1.memory_blocks") == 0
    assert await connection.fetchval("SELECT count(*) FROM luma_p1.memory_erasures") == 1


async def test_a_partition_that_is_away_is_named_and_the_others_continue(
    database: Database, connection: asyncpg.Connection
) -> None:
    partitions = Partitions(database)
    await partitions.create(3, "luma_p")
    await connection.execute("UPDATE memory_partitions SET dsn = $1 WHERE number = 1", NOWHERE)
    await connection.execute(
        "DROP SCHEMA luma_p2 CASCADE; UPDATE memory_partitions SET state = 'creating'"
        " WHERE number = 2"
    )
    # Interrupted before the schema was there: repeating the command continues.
    away, resumed = await partitions.create(3, "luma_p")
    assert away.error is not None
    assert resumed.report is not None
    assert "0028_partitions" in resumed.report.applied
    reports = await partitions.reports()
    assert [(one.error is None, one.partition.state) for one in reports] == [
        (True, "serving"),
        (False, "serving"),
        (True, "prepared"),
    ]
    (finding,) = partition_findings(reports)
    assert (finding.subject, finding.verdict) == ("partition 1", "fail")
    assert "127.0.0.1" not in finding.detail


async def test_only_what_is_missing_is_migrated_and_versions_are_distinguished(
    database: Database, partition: Database
) -> None:
    assert await schema_is_current(partition)
    # As a partition that an earlier version made. The home partition's history is another one.
    await partition.execute(
        "DELETE FROM luma_p1.memory_migrations WHERE version = '0028_partitions'"
    )
    assert not await schema_is_current(partition)
    assert await schema_is_current(database)
    (report,) = (await Partitions(database).reports())[1:]
    (finding,) = partition_findings([report])
    assert finding.fix == "run luma-memory migrate"
    (done,) = await Partitions(database).migrate()
    assert done.report is not None
    assert done.report.applied == ["0028_partitions"]


async def test_schemas_of_a_new_database_are_migrated_at_once(empty_dsn: str) -> None:
    """Each waits for its own schema's lock only; the extension is created once."""
    admin = await asyncpg.connect(empty_dsn)
    names = ["first", "second", "Third one"]
    for name in names:
        await admin.execute(f'CREATE SCHEMA "{name}"')
    places = [Database(empty_dsn, schema=name, pool_size=1) for name in names]
    reports = await asyncio.gather(*map(migrate, places))
    assert len({len(report.applied) for report in reports}) == 1
    # One that is being migrated holds back another migrator of the same schema, and no others.
    async with admin.transaction():
        await admin.execute("SELECT pg_advisory_xact_lock(486701012, hashtext('first'))")
        assert not (await migrate(places[1])).applied
        waiting = asyncio.create_task(migrate(places[0]))
        await until_a_session_waits(admin)
        # An earlier version's migrator takes this one alone.
        assert not await admin.fetchval("SELECT pg_try_advisory_xact_lock(4867010125002)")
        assert not waiting.done()
    assert not (await waiting).applied
    for place in places:
        await place.close()
    await admin.close()


async def test_the_directory_is_no_part_of_a_backup(
    database: Database, partition: Database, dsn: str, empty_dsn: str, tmp_path: Path
) -> None:
    target = Database(empty_dsn, pool_size=2)
    await migrate(target)
    file = tmp_path / "memory.dump"
    await ingest(database, new_block(user_id="melanie"))
    await dump(database, dsn, file)
    await load(target, empty_dsn, file)
    assert await Partitions(target).reports() == []
    row = await target.fetch_row("SELECT count(*) AS blocks FROM memory_blocks")
    assert row is not None
    assert row["blocks"] == 1
    await target.close()


async def test_a_schema_that_comes_first_on_the_path_does_not_hide_an_installation(
    dsn: str, connection: asyncpg.Connection
) -> None:
    """As when a schema is created that has the name of the role. Only partitions are hidden so."""
    await connection.execute("CREATE SCHEMA early")
    place = Database(f"{dsn}&options=-csearch_path%3Dearly,public", pool_size=1)
    assert await schema_is_current(place)
    with pytest.raises(SetupError, match="memory_users exists already"):
        await migrate(place)
    await place.close()


async def test_installations_share_a_database_beside_the_schema_of_pgvector(
    empty_dsn: str,
) -> None:
    admin = await asyncpg.connect(empty_dsn)
    await admin.execute("CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions")
    for name in ("shop", "games"):
        await admin.execute(f"CREATE SCHEMA {name}")
        place = Database(f"{empty_dsn}&options=-csearch_path%3D{name},extensions", pool_size=2)
        assert not await schema_is_current(place)
        await migrate(place)
        await ingest(place, new_block(user_id=name))
        await place.close()
    for name in ("shop", "games"):
        users = await admin.fetch(f"SELECT user_id FROM {name}.memory_users")
        assert [row["user_id"] for row in users] == [name]
    await admin.close()


@needs_pgbouncer
@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_behind_a_pooler_the_remedy_is_named(dsn: str, mode: str) -> None:
    async with running_pooler(dsn, mode=mode) as pooler:
        place = Database(pooler.address(dsn), schema="luma_p1")
        with pytest.raises(SetupError, match="direct address"):
            await place.open()
        await place.close()


async def test_sql_finds_the_same_partition(connection: asyncpg.Connection) -> None:
    """What docs/scaling.md gives for statements of an operator."""
    for user in ("caroline", "ユーザー-7", ""):
        number = await connection.fetchval(
            "SELECT ('x' || lpad(encode(substring(sha256(convert_to($1, 'UTF8') || '\\x00'"
            " || convert_to($2, 'UTF8')) FOR 6), 'hex'), 16, '0'))::bit(64)::bigint % 64",
            "default",
            user,
        )
        assert number == partition_number(Scope("default", user), 64)


async def test_a_partition_refuses_users_of_others(database: Database, partition: Database) -> None:
    """As of a process that was started before the partitions were: nothing is stored astray."""
    for place, user in ((database, "caroline"), (partition, "melanie")):
        with pytest.raises(PartitionMismatch):
            await ingest(place, new_block(user_id=user))
        row = await place.fetch_row("SELECT count(*) AS blocks FROM memory_blocks")
        assert row is not None
        assert row["blocks"] == 0


async def test_users_stay_where_they_are(
    database: Database, connection: asyncpg.Connection
) -> None:
    await ingest(database, new_block(user_id="caroline"))
    partitions = Partitions(database)
    await partitions.create(2, "luma_p")
    assert not await partitions.is_spread()
    await ingest(database, new_block(user_id="caroline"))
    assert await connection.fetchval("SELECT count(*) FROM public.memory_blocks") == 2


async def test_sql_computes_the_same_partition(connection: asyncpg.Connection) -> None:
    names = ["default", "caroline", "", "projekt-ä", "ユーザー-7", "a'b\\c", "😀" * 40]
    for project, user, count in itertools.product(names, names, (1, 2, 64, 1000, 1024)):
        number = await connection.fetchval(
            "SELECT memory_partition_number($1, $2, $3)", project, user, count
        )
        assert number == partition_number(Scope(project, user), count)
