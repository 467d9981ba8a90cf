"""The directory of partitions, and what each of them holds."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from luma_memory.domain.errors import Conflict, InvariantError, SetupError
from luma_memory.domain.partition import (
    ACTIVE_STATES,
    HOME,
    Partition,
    PartitionFacts,
    PartitionState,
    first_id,
    layout_of,
    schema_names,
)
from luma_memory.domain.scope import Scope
from luma_memory.postgres.database import Database, quoted_name
from luma_memory.postgres.migrator import schema_is_current
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.store.schema_nodes import bytes_of, node_of, rows_of

_SQL = SqlFile(__name__)
# A transaction that moves a user holds their lock for so long at least (see `user_locations`).
STEADY_SECONDS: Final = 0.05
# A pause ends after this time if the command that began it is gone.
PAUSE_LEASE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class PartitionWork:
    """What there is to do in a partition."""

    is_due: bool  # jobs may be claimed
    is_busy: bool  # jobs are being processed
    has_webhooks: bool


class PartitionDirectory:
    """In the home partition. Methods raise StoreUnavailable and SetupError."""

    def __init__(self, home: Database) -> None:
        self._home = home

    async def partitions(self) -> Sequence[Partition]:
        """In order of their numbers; none if the home partition is the only one."""
        return [Partition(**dict(row)) for row in await self._home.fetch(_SQL["list_partitions"])]

    async def plan(
        self, count: int, prefix: str, addresses: Mapping[int, str]
    ) -> Sequence[Partition]:
        """Write down `count` partitions, or find them there. Their number cannot change later.

        addresses: of partitions on other servers, by number. Raises Invalid for impossible names,
        Conflict if another number or other names are planned, or if a schema of such a name exists.
        """
        dsns = [addresses.get(number) for number in range(1, count)]
        return await self.plan_named(schema_names(prefix, count), dsns)

    async def plan_named(
        self, names: Sequence[str], dsns: Sequence[str | None]
    ) -> Sequence[Partition]:
        """`plan`, with the schemas and addresses of partitions 1 and up."""
        async with self._home.transaction():
            await self._home.execute(_SQL["lock_directory"])
            planned = await self.partitions()
            if not planned:
                if foreign := await self._home.fetch(_SQL["foreign_schemas"], names):
                    raise Conflict(
                        f"The schema {foreign[0]['name']} exists already: choose another"
                        " --schema-prefix",
                        code="schema_exists",
                    )
                await self._home.execute(_SQL["add_partitions"], names, dsns)
                planned = await self.partitions()
        if [one.schema for one in planned[1:]] != list(names):
            raise Conflict(
                f"There are {len(planned)} partitions, {planned[1].schema} to"
                f" {planned[-1].schema}: their number and names cannot be changed",
                code="partitions_exist",
            )
        return planned

    async def spread_users(self) -> bool:
        """Spread users over all partitions, which are prepared; whether they are now.

        False while the home partition has users: they would be looked for in others. Idempotent.
        """
        async with self._home.transaction():
            await self._home.execute(_SQL["lock_directory"])
            known = await self.partitions()
            if all(one.state in ACTIVE_STATES for one in known):
                return True
            if layout_of(known) in {"adopting", "returning"}:
                return False
            await self._home.execute(_SQL["hold_users"])
            row = await self._home.fetch_row(_SQL["has_users"])
            if row is None or row["found"] or any(one.state == "creating" for one in known):
                return False
            await self._serve_all(len(known))
        return True

    async def serve_restored(self) -> None:
        """Users are in their partitions, which are prepared: a backup was restored to them."""
        async with self._home.transaction():
            await self._home.execute(_SQL["lock_directory"])
            await self._serve_all(len(await self.partitions()))

    async def _serve_all(self, count: int) -> None:
        await self._home.execute(_SQL["restrict"], HOME, count)
        await self._home.execute(_SQL["serve_all"])
        await self._home.execute(_SQL["announce"])

    async def set_state(self, number: int, state: PartitionState) -> None:
        """Pause or continue writes to a partition that serves; processes learn of it soon.

        A pause ends after PAUSE_LEASE_SECONDS by itself.

        A process that cannot read the directory does not: who relies on the pause also has to lock
        the partition's tables (see docs/adr/0021-routing.md).
        """
        async with self._home.transaction():
            await self._home.execute(_SQL["set_state"], number, state, PAUSE_LEASE_SECONDS)
            await self._home.execute(_SQL["announce"])

    async def set_prepared(self, number: int) -> None:
        """The schema of the partition is complete. Idempotent."""
        await self._home.execute(_SQL["set_prepared"], number)


async def create_schema(partition: Database) -> None:
    """Create the partition's schema unless it exists."""
    assert partition.schema is not None
    name = quoted_name(partition.schema)
    row = await partition.fetch_row(_SQL["has_schema"], name)
    if row is not None and row["found"]:
        return
    await create_extension(partition)
    async with partition.transaction():
        # Two commands that create it at once would both find it missing, and one would fail.
        await partition.execute(_SQL["lock_directory"])
        # Reads the catalog's table: the session may still remember that the schema was missing.
        if await partition.fetch(_SQL["foreign_schemas"], [partition.schema]):
            return
        await partition.execute(_SQL["create_schema"].replace("/*schema*/", name))


@asynccontextmanager
async def renamed(partition: Database, name: str) -> AsyncIterator[Database]:
    """The partition, whose schema has another name for the context: a dump names its own.

    No process finds the partition meanwhile. Raises Conflict if there is a schema of the name.
    """
    own = partition.schema
    assert own is not None
    if own == name:
        yield partition
        return
    row = await partition.fetch_row(_SQL["has_schema"], quoted_name(name))
    if row is not None and row["found"]:
        raise Conflict(f"There is a schema {name} already", code="schema_exists")
    other = partition.beside(schema=name, dsn=None)
    rename = "ALTER SCHEMA {} RENAME TO {}"
    await partition.execute(rename.format(quoted_name(own), quoted_name(name)))
    try:
        yield other
    finally:
        await other.execute(rename.format(quoted_name(name), quoted_name(own)))
        await other.close()


async def create_extension(partition: Database) -> None:
    """Create pgvector outside of the partition's schema, where other partitions also find it.

    Does nothing if that is refused: the migration then reports why.
    """
    with contextlib.suppress(SetupError, InvariantError):
        await partition.execute(_SQL["create_extension"])


async def begin_ids(partition: Database, first: int) -> None:
    """Let ids of new rows begin at `first`; each node of a Citus cluster begins at its own."""
    await partition.execute(_SQL["begin_ids"], first)


async def prepare(partition: Database, number: int, count: int, receipts: bytes) -> None:
    """Make a migrated partition ready for its users. Idempotent.

    receipts: the home partition's secret of erasures.
    """
    await begin_ids(partition, first_id(number))
    await partition.execute(_SQL["restrict"], number, count)
    await partition.execute(_SQL["share_secret"], receipts)


async def partition_work(
    server: Database, partitions: Sequence[tuple[int, str]]
) -> Mapping[int, PartitionWork]:
    """The work of partitions of one server, given by number and schema, in one statement."""
    if not partitions:
        return {}
    # Without its comment, which would be there once for each partition.
    one = _SQL["work_of_partition"].partition("SELECT")
    texts = [
        (one[1] + one[2])
        .replace("/*number*/", str(number))
        .replace("/*schema*/", quoted_name(schema))
        for number, schema in partitions
    ]
    rows = await server.fetch("\nUNION ALL\n".join(texts))
    return {
        row["number"]: PartitionWork(row["is_due"], row["is_busy"], row["has_webhooks"])
        for row in rows
    }


async def users_here(partition: Database, scopes: Sequence[Scope]) -> Sequence[tuple[bool, bool]]:
    """While users are moved away from this partition: for each, whether it still has the user, and
    whether the user is not being moved at this moment."""
    rows = await partition.fetch(
        _SQL["users_here"],
        [scope.project_id for scope in scopes],
        [scope.user_id for scope in scopes],
    )
    return [(row["is_here"], row["is_free"]) for row in rows]


async def partition_facts(partition: Database) -> PartitionFacts:
    """Of a reachable partition."""
    row = await partition.fetch_row(_SQL["partition_facts"])
    assert row is not None
    is_current = await schema_is_current(partition)
    schema = partition.schema
    is_placed = schema is not None and await node_of(partition, schema) is not None
    job = await partition.fetch_row(_SQL["oldest_job"]) if is_current else None
    listed = await partition.fetch_row(_SQL["count_listed"]) if is_current else None
    return PartitionFacts(
        rows=await rows_of(partition) if is_placed else row["rows"],
        bytes=await bytes_of(partition, schema) if schema and is_placed else row["bytes"],
        oldest_pending_seconds=None if job is None else job["seconds"],
        schema_current=is_current,
        users_leaving=0 if listed is None else listed["users"],
    )
