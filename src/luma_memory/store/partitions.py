"""The directory of partitions, and what each of them holds."""

from __future__ import annotations

from collections.abc import Sequence

from luma_memory.domain.errors import Conflict
from luma_memory.domain.partition import Partition, PartitionFacts, schema_names
from luma_memory.postgres.database import Database, quoted_name
from luma_memory.postgres.migrator import schema_is_current
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)


class PartitionDirectory:
    """In the home partition. Methods raise StoreUnavailable and SetupError."""

    def __init__(self, home: Database) -> None:
        self._home = home

    async def partitions(self) -> Sequence[Partition]:
        """In order of their numbers; none if the home partition is the only one."""
        return [Partition(**dict(row)) for row in await self._home.fetch(_SQL["list_partitions"])]

    async def plan(self, count: int, prefix: str) -> Sequence[Partition]:
        """Write down `count` partitions, or find them there. Their number cannot change later.

        Raises Invalid for impossible names, Conflict if another number or other names are planned,
        or if a schema of such a name exists.
        """
        names = schema_names(prefix, count)
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
                await self._home.execute(_SQL["add_partitions"], names)
                planned = await self.partitions()
        if [one.schema for one in planned[1:]] != names:
            raise Conflict(
                f"There are {len(planned)} partitions, {planned[1].schema} to"
                f" {planned[-1].schema}: their number and names cannot be changed",
                code="partitions_exist",
            )
        return planned

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
    async with partition.transaction():
        # Two commands that create it at once would both find it missing, and one would fail.
        await partition.execute(_SQL["lock_directory"])
        await partition.execute(_SQL["create_schema"].replace("/*schema*/", name))


async def partition_facts(partition: Database) -> PartitionFacts:
    """Of a reachable partition."""
    row = await partition.fetch_row(_SQL["partition_facts"])
    assert row is not None
    is_current = await schema_is_current(partition)
    job = await partition.fetch_row(_SQL["oldest_job"]) if is_current else None
    return PartitionFacts(
        rows=row["rows"],
        bytes=row["bytes"],
        oldest_pending_seconds=None if job is None else job["seconds"],
        schema_current=is_current,
    )
